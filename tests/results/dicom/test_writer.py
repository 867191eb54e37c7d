"""DICOM out: objects that other programs accept, with the numbers and pixels that were found, on the right image."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom
import numpy as np
import PIL.Image
import pydicom
import pytest
import torch
from highdicom.pm.sop import pmread
from matplotlib.colors import Normalize
from pydicom.dataset import Dataset

from aeflow.artifacts.layout import read_metadata
from aeflow.cli import main
from aeflow.data.records import find_images
from aeflow.data.slices import unfold
from aeflow.imageio.errors import ImageError
from aeflow.imageio.reader import read_image
from aeflow.reporting.overlay import resample
from aeflow.reporting.style import HEAT_MAP
from aeflow.results.dicom import parametric_map as maps
from aeflow.results.dicom.identifiers import ModelIdentity, Result
from aeflow.results.dicom.overlay import MIN_WIDTH, blend, picture
from aeflow.results.dicom.writer import DicomFolder, write_object, write_results
from aeflow.results.score_table import ScoreTable
from aeflow.scoring.score_files import score_files
from aeflow.scoring.scorer import Score, score
from aeflow.training.train import Trained
from helpers.data import SAMPLE, lesion
from helpers.dicom_sources import MADE, PATIENT, cr, ct, dx, enhanced_mr, mr, texture, us, write

BUNDLED = Path(highdicom.__file__).parent.parent / "pydicom" / "data" / "test_files"
REAL = {
    "CT, signed": "CT_small.dcm",
    "MR, big-endian": "MR_small_bigendian.dcm",
    "MR, its study named again as frame of reference": "dicomdirtests/98892003/MR1/4919",
    "CR, MONOCHROME1": "dicomdirtests/77654033/CR1/6154",
    "CT, names in Japanese": "J2K_pixelrep_mismatch.dcm",
    "CT, anonymised, no frame of reference": "693_J2KI.dcm",
    "NM as secondary capture": "JPEG-lossy.dcm",
    "US, palette": "examples_palette.dcm",
    "US, colour, frames": "examples_ybr_color.dcm",
    "SC, colour, two frames": "SC_rgb_rle_2frame.dcm",
}
KINDS = ("map", "overlay", "report")


@dataclass(frozen=True)
class Written:
    """A source, what was said of it, and the results that were written."""

    source: Dataset
    results: list[tuple[Result, np.ndarray]]
    paths: list[Path]

    def of(self, kind: str) -> Dataset:
        return pydicom.dcmread(next(path for path in self.paths if path.stem.endswith(kind)))


def said(data: Dataset, keyword: str) -> object:
    """What an object says, None where it says nothing."""
    return None if keyword not in data or data[keyword].is_empty else data[keyword].value


@pytest.fixture(scope="module")
def maker(trained: Trained, run: Path) -> ModelIdentity:
    return ModelIdentity(read_metadata(run)["sha256"], trained.artifact.calibration)


@pytest.fixture(scope="module")
def scores(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> list[Score]:
    folder = tmp_path_factory.mktemp("lesions")
    for seed in range(3):
        PIL.Image.fromarray(lesion(seed)[0]).save(folder / f"{seed}.png")
    found = [result for _, result in score(trained.artifact.scorer, find_images([folder]), maps=True)]
    return [replace(found[0], posterior={"normal": 0.125, "pneumonia": 0.875}), *found[1:]]


def results_on(path: Path, scores: list[Score]) -> list[tuple[Result, np.ndarray]]:
    """Scores of an image, or of every other frame, with pixels as a reader would give them."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    frames = int(header.get("NumberOfFrames") or 1)
    numbers = [None] if frames == 1 else list(range(2, frames + 1, 2))[:3]
    shape = header.Rows, header.Columns
    return [
        (Result(scores[i], frame, ("modality",) if i == 0 else ()), texture(*shape, seed=i))
        for i, frame in enumerate(numbers)
    ]


@pytest.fixture(scope="module", params=[*MADE, *REAL])
def written(
    request: pytest.FixtureRequest, maker: ModelIdentity, scores: list[Score], tmp_path_factory: pytest.TempPathFactory
) -> Written:
    folder = tmp_path_factory.mktemp("out")
    name = request.param
    path = MADE[name](folder / "source.dcm") if name in MADE else BUNDLED / REAL[name]
    results = results_on(path, scores)
    paths, refused = write_results(path, results, maker, folder, number=7)
    assert refused == []
    return Written(pydicom.dcmread(path), results, paths)


# Laws.


def test_resampling_keeps_values_where_pixels_coincide_and_follows_the_pixel_grid() -> None:
    score_map = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    np.testing.assert_array_equal(resample(score_map, (16, 16)), score_map)
    np.testing.assert_array_equal(resample(np.full((4, 4), 0.1, np.float32), (9, 5)), np.float32(0.1))
    enlarged = torch.nn.functional.interpolate(torch.from_numpy(score_map)[None, None], (48, 80), mode="bilinear")
    np.testing.assert_allclose(resample(score_map, (48, 80)), enlarged[0, 0].numpy(), atol=1e-5)
    assert resample(score_map, (5, 9)).mean() == pytest.approx(score_map.mean(), abs=0.05)


def test_overlay_colours_as_the_gallery_does() -> None:
    pixels, score_map = texture(600, 640, seed=1), texture(32, 32, seed=2) * 3
    heat = HEAT_MAP(Normalize(0.5, 2.5, clip=True)(resample(score_map, (600, 640))))
    expected = pixels[..., None] * (1 - heat[..., 3:]) + heat[..., :3] * heat[..., 3:]
    np.testing.assert_allclose(blend(pixels, score_map, (0.5, 2.5)), 255 * expected, atol=0.6)
    below = blend(pixels, score_map * 0, (0.5, 2.5))
    np.testing.assert_array_equal(below, np.repeat((255 * pixels).round()[..., None], 3, axis=2))


def test_small_images_are_enlarged_by_a_whole_number() -> None:
    pixels = texture(20, 100)
    shown = blend(pixels, np.zeros((8, 8), np.float32), (1, 2))
    assert shown.shape == (120, 600, 3)
    assert shown.shape[1] >= MIN_WIDTH
    np.testing.assert_array_equal(shown[::6, ::6, 0], (255 * pixels).round())


# Behaviour: what a receiver finds.


def test_files_are_numbered_and_carry_no_name(written: Written) -> None:
    overlays = [f"{7 + i:05d}_overlay.dcm" for i in range(len(written.results))]
    assert [path.name for path in written.paths] == [*overlays, "00007_map.dcm", "00007_report.dcm"]


def test_validator_finds_no_error(written: Written) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not on the PATH; install the Debian package dicom3tools")
    for path in written.paths:
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace")
        lines = (done.stdout + done.stderr).splitlines()
        assert lines, path
        assert [line for line in lines if line.startswith("Error")] == [], path.name


def test_results_belong_to_patient_and_study_of_the_source(written: Written) -> None:
    for kind in KINDS:
        made = written.of(kind)
        for keyword in ("StudyInstanceUID", *PATIENT):
            assert said(made, keyword) == said(written.source, keyword), (kind, keyword)
        assert made.SeriesInstanceUID != written.source.SeriesInstanceUID
        assert (made.Manufacturer, made.ManufacturerModelName) == ("aeflow", "aeflow")


def test_map_has_the_values_of_the_anomaly_map_at_the_sources_size(written: Written) -> None:
    made = written.of("map")
    rows, columns = written.source.Rows, written.source.Columns
    expected = np.stack([resample(result.score.maps["anomaly"], (rows, columns)) for result, _ in written.results])
    np.testing.assert_array_equal(made.pixel_array.reshape(expected.shape), expected)
    assert made.pixel_array.dtype == np.float32
    mapping = made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.LUTExplanation == "Anomaly map, sum of the terms, each standardised"
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"  # a sum of standardised terms is in no unit
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == expected.min()
    assert made.ContentQualification == "RESEARCH"
    read = pmread(written.paths[-2])  # highdicom reads its geometry, and applies the mapping
    frames = read.get_frames(apply_real_world_transform=True)
    np.testing.assert_array_equal(frames.astype(np.float32), expected)


def test_map_refers_to_the_frames_of_the_source(written: Written) -> None:
    made = written.of("map")
    one_frame = written.source.SOPClassUID.name == "Secondary Capture Image Storage"
    items = zip(made.PerFrameFunctionalGroupsSequence, written.results, strict=True)
    for index, (item, (result, _)) in enumerate(items, 1):
        [reference] = item.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == written.source.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == written.source.SOPClassUID
        assert reference.SpatialLocationsPreserved == "YES"
        assert reference.get("ReferencedFrameNumber") == (None if one_frame else result.frame)
        assert item.FrameContentSequence[0].FrameLabel == f"Frame {result.frame or 1}"
        assert item.FrameContentSequence[0].DimensionIndexValues == index


def test_overlay_shows_the_picture(written: Written, maker: ModelIdentity) -> None:
    overlays = [pydicom.dcmread(path) for path in written.paths if "overlay" in path.name]
    for made, (result, pixels) in zip(overlays, written.results, strict=True):
        np.testing.assert_array_equal(made.pixel_array, picture(result, pixels, maker))
        image = blend(pixels, result.score.maps["anomaly"], maker.calibration.map_limits["anomaly"])
        np.testing.assert_array_equal(made.pixel_array[: len(image)], image)
        assert made.pixel_array[len(image) :].std() > 20  # words and bar below it
        [reference] = made.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == written.source.SOPInstanceUID
        assert said(made, "BurnedInAnnotation") == said(written.source, "BurnedInAnnotation")
        assert said(made, "PatientOrientation") == said(written.source, "PatientOrientation")
    assert len({made.SOPInstanceUID for made in overlays}) == len(overlays)
    assert len({made.SeriesInstanceUID for made in overlays}) == 1


def test_report_says_what_was_found_and_by_whom(written: Written, maker: ModelIdentity) -> None:
    made = highdicom.sr.srread(written.paths[-1])
    assert made.VerificationFlag == "UNVERIFIED"
    assert made.PreliminaryFlag == "PRELIMINARY"
    groups = made.content.get_image_measurement_groups()
    for group, (result, _) in zip(groups, written.results, strict=True):
        found, calibration = result.score, maker.calibration
        numbers = {item.name.value: item.value for item in group.get_measurements()}
        expected = {"SCORE": found.value, "P_VALUE": found.p_value, "THRESHOLD": calibration.threshold}
        expected |= {f"TERM_{name}".upper()[:16]: value for name, value in found.terms.items()}
        expected |= {f"PROBABILITY_{i}": value for i, value in enumerate(found.posterior.values())}
        assert numbers == pytest.approx(expected, rel=1e-9, abs=1e-12)
        said = {item.name.value: item.value.meaning for item in group.get_qualitative_evaluations()}
        # a score below the threshold is no diagnosis, and must not read as one
        assert said["VERDICT"] == ("Abnormal" if found.verdict == "abnormal" else "Not above the threshold")
        assert said["USE"] == "Research use, not a medical device"
        assert said["OUTSIDE"] == ("Yes" if result.outside else "No")
        texts = {item.name.meaning: item.value for item in group[0].ContentSequence if item.ValueType == "TEXT"}
        assert texts["Algorithm Name"] == "aeflow"
        assert texts["Algorithm Version"]
        parameters = [i.value for i in group[0].ContentSequence if i.name.meaning == "Algorithm Parameters"]
        assert parameters[0] == f"run fingerprint {maker.fingerprint}"
        assert group.tracking_uid.startswith("2.25.")
        [reference] = [item.ReferencedSOPSequence[0] for item in group.source_images]
        assert reference.ReferencedSOPInstanceUID == written.source.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == written.source.SOPClassUID
    assert len({group.tracking_uid for group in groups}) == len(groups)


def test_report_lists_the_source_and_all_results_as_evidence(written: Written) -> None:
    evidence = {(uid, sop_class) for _, _, uid, sop_class in highdicom.sr.srread(written.paths[-1]).get_evidence()}
    made = [pydicom.dcmread(path) for path in written.paths[:-1]]
    assert evidence == {(one.SOPInstanceUID, one.SOPClassUID) for one in [written.source, *made]}


# Behaviour: geometry.


def test_map_lies_where_its_slice_lies(tmp_path: Path, maker: ModelIdentity, scores: list[Score]) -> None:
    source = pydicom.dcmread(ct(tmp_path / "ct.dcm"))
    write_results(tmp_path / "ct.dcm", [(Result(scores[0]), texture(64, 96))], maker, tmp_path)
    made = pmread(tmp_path / "00001_map.dcm")
    assert made.FrameOfReferenceUID == source.FrameOfReferenceUID
    geometry = made.get_volume_geometry()
    expected = highdicom.get_volume_from_series([source]).get_geometry()
    np.testing.assert_allclose(geometry.affine[:, 1:], expected.affine[:, 1:])
    measures = made.PerFrameFunctionalGroupsSequence[0].get("PixelMeasuresSequence") or (
        made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    )
    assert measures[0].SliceThickness == 2.5


def test_frames_keep_their_order_and_their_places(tmp_path: Path, maker: ModelIdentity, scores: list[Score]) -> None:
    source = pydicom.dcmread(enhanced_mr(tmp_path / "mr.dcm"))
    results = [(Result(scores[i], frame), texture(48, 48)) for i, frame in enumerate((4, 1, 2))]
    write_results(tmp_path / "mr.dcm", results, maker, tmp_path)
    made = pydicom.dcmread(tmp_path / "00001_map.dcm")
    for frame, item in zip((4, 1, 2), made.PerFrameFunctionalGroupsSequence, strict=True):
        own = source.PerFrameFunctionalGroupsSequence[frame - 1]
        assert item.PlanePositionSequence == own.PlanePositionSequence
    for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        assert made.SharedFunctionalGroupsSequence[0][name] == source.SharedFunctionalGroupsSequence[0][name]
    assert made.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_an_enhanced_image_of_one_frame_is_placed_by_its_groups(
    tmp_path: Path, maker: ModelIdentity, scores: list[Score]
) -> None:
    source = pydicom.dcmread(enhanced_mr(tmp_path / "mr.dcm"))
    source.NumberOfFrames, source.PixelData = 1, source.PixelData[: 48 * 48 * 2]
    del source.PerFrameFunctionalGroupsSequence[:3]
    source.save_as(tmp_path / "mr.dcm")
    write_results(tmp_path / "mr.dcm", [(Result(scores[0]), texture(48, 48))], maker, tmp_path)
    made = pydicom.dcmread(tmp_path / "00001_map.dcm")
    assert made.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert made.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient == [0, 0, -12]


@pytest.mark.parametrize("make", [cr, dx, us])
def test_what_lies_nowhere_gets_a_space_of_its_own(
    make, tmp_path: Path, maker: ModelIdentity, scores: list[Score]
) -> None:
    made = []
    for number in (1, 2):
        path = make(tmp_path / f"{number}.dcm")
        source = pydicom.dcmread(path)
        source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        source.save_as(path)
        write_results(path, results_on(path, scores), maker, tmp_path, 10 * number)
        made.append(pydicom.dcmread(tmp_path / f"{10 * number:05d}_map.dcm"))
    assert made[0].FrameOfReferenceUID != made[1].FrameOfReferenceUID
    assert made[0].SeriesInstanceUID != made[1].SeriesInstanceUID  # a series has one frame of reference
    groups = made[0].PerFrameFunctionalGroupsSequence[0], made[0].SharedFunctionalGroupsSequence[0]
    [measures] = [g.PixelMeasuresSequence[0] for g in groups if "PixelMeasuresSequence" in g]
    spacing = source.get("ImagerPixelSpacing")
    assert measures.get("PixelSpacing") == spacing


# Behaviour: numbers that stay.


def test_a_second_run_gives_the_same_uids_and_another_model_others(
    tmp_path: Path, maker: ModelIdentity, scores: list[Score]
) -> None:
    path = dx(tmp_path / "dx.dcm")
    results = results_on(path, scores)
    uids = []
    for number, by in enumerate((maker, maker, replace(maker, fingerprint="0" * 64)), 1):
        paths, _ = write_results(path, results, by, tmp_path, number)
        made = [pydicom.dcmread(p) for p in paths]
        uids.append([uid for one in made for uid in (one.SOPInstanceUID, one.SeriesInstanceUID)])
        assert [one.DeviceSerialNumber for one in made] == [by.fingerprint] * 3
        assert [one.SeriesNumber for one in made] == [3902, 3901, 3903]
    assert uids[0] == uids[1]
    assert not set(uids[0]) & set(uids[2])
    for uid in uids[0]:
        assert uid.is_valid
        assert int(uid.removeprefix("2.25.")) < 2**128


def test_side_and_loss_of_the_source_are_kept(tmp_path: Path, maker: ModelIdentity, scores: list[Score]) -> None:
    path = dx(tmp_path / "dx.dcm")
    for file in write_results(path, results_on(path, scores), maker, tmp_path)[0][:2]:
        made = pydicom.dcmread(file)
        assert made.Laterality == "R"
        assert (made.LossyImageCompression, made.LossyImageCompressionRatio) == ("01", 12.5)


# Behaviour: what breaks the rules, and who must not be named.


def test_values_that_break_the_rules_are_left_out(tmp_path: Path, maker: ModelIdentity, scores: list[Score]) -> None:
    broken = {"PatientBirthDate": "19581399", "PatientSex": "X", "PatientAge": "old", "StudyTime": "noon"}
    pixels = (255 * texture(40, 40)).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the test's own writing
        path = write(tmp_path / "s.dcm", "CR", pixels, **broken, PatientIdentityRemoved="YES")
    paths, refused = write_results(path, results_on(path, scores), maker, tmp_path)
    assert refused == []
    for made in map(pydicom.dcmread, paths):
        assert [said(made, keyword) for keyword in broken] == [None] * 4
        assert made.PatientID == PATIENT["PatientID"]
        assert made.DeidentificationMethod == "not stated in the source"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"SOPInstanceUID": None}, "no valid SOPInstanceUID, so no DICOM result can refer to it"),
        ({"StudyInstanceUID": "1.2.x"}, "no valid StudyInstanceUID"),
        ({"PatientName": "Canary" * 20}, "its PatientName breaks the rules of DICOM, so no result can carry it"),
        ({"Columns": None}, "its header says no Rows or no Columns"),
    ],
)
def test_a_source_that_nothing_can_refer_to_is_refused_by_reason(
    changes: dict, found: str, tmp_path: Path, maker: ModelIdentity, scores: list[Score]
) -> None:
    path = cr(tmp_path / "cr.dcm")
    data = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in changes.items():
            setattr(data, keyword, value)
        data.save_as(path, enforce_file_format=False)
    paths, [refused] = write_results(path, [(Result(scores[0]), texture(90, 70))], maker, tmp_path)
    assert paths == []
    assert refused.found.startswith(found)
    assert "Canary" not in str(refused)


def test_an_object_that_cannot_be_made_leaves_the_others(
    tmp_path: Path, maker: ModelIdentity, scores: list[Score], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mr(tmp_path / "mr.dcm")
    monkeypatch.setattr(maps, "MAX_BYTES", 9999)
    paths, [refused] = write_results(path, results_on(path, scores), maker, tmp_path)
    assert [p.name for p in paths] == ["00001_overlay.dcm", "00001_report.dcm"]
    assert refused.found == "a Parametric Map of 1 frames would hold 10000 bytes where the limit is 9999"
    wrong = [(Result(scores[0]), texture(30, 30))]
    monkeypatch.undo()
    paths, [refused] = write_results(path, wrong, maker, tmp_path, 2)
    assert [p.name for p in paths] == ["00002_map.dcm", "00002_report.dcm"]
    assert refused.found == "30 x 30 pixels were read where its header says 50 x 50"
    evidence = highdicom.sr.srread(paths[1]).get_evidence()
    assert pydicom.dcmread(paths[0]).SOPInstanceUID in {uid for _, _, uid, _ in evidence}
    assert len(evidence) == 2


def test_nobody_is_named_on_the_way(
    tmp_path: Path,
    maker: ModelIdentity,
    scores: list[Score],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture,
) -> None:
    """highdicom warns with a name that has one component, pydicom with any value it doubts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = (255 * texture(40, 40)).astype(np.uint8)
        names = {"PatientName": "CANARY", "ReferringPhysicianName": "CANARY", "PatientBirthDate": "CANARY"}
        path = write(tmp_path / "s.dcm", "CR", pixels, **names, AccessionNumber="CANARY" * 5)
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        paths, _ = write_results(path, results_on(path, scores), maker, tmp_path)
    heard = [*map(str, (one.message for one in warned)), caplog.text, *capfd.readouterr(), *map(str, paths)]
    assert not any("CANARY" in text for text in heard), heard
    assert pydicom.dcmread(paths[0]).PatientName == "CANARY"


# Truth: real images, and the command line.


def test_a_real_chest_x_ray_as_dx(trained: Trained, maker: ModelIdentity, tmp_path: Path) -> None:
    [record] = find_images([SAMPLE / "test" / "abnormal" / "person100_bacteria_475.jpeg"])
    [(_, found)] = score(trained.artifact.scorer, [record], maps=True)
    stored = np.asarray(PIL.Image.open(record.path).convert("L"))
    path = write(tmp_path / "dx.dcm", "DX", stored, PatientOrientation=["L", "F"])
    paths, refused = write_results(path, [(Result(found), (stored / 255).astype(np.float32))], maker, tmp_path)
    assert refused == []
    shown = pydicom.dcmread(paths[0]).pixel_array
    assert shown.shape[1] == 672
    image = shown[:672].astype(int)
    colourful = np.ptp(image, axis=2) > 30
    level = resample(found.maps["anomaly"], (672, 672))
    assert not colourful[level <= maker.calibration.map_limits["anomaly"][0]].any()
    np.testing.assert_allclose(image[~colourful].mean(axis=1), stored.repeat(3, 0).repeat(3, 1)[~colourful], atol=25)


def test_the_command_writes_results_and_counts_other_images(
    trained: Trained, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = dx(tmp_path / "dx.dcm")
    with pytest.raises(SystemExit) as ended:
        main(
            ["score", str(run), str(source), str(data / "test" / "normal"), "--dicom", str(tmp_path / "out"), "--json"]
        )
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert len([json.loads(line) for line in said.out.splitlines()]) == 13
    assert "note: 12 images are not DICOM: no DICOM results for them\n" in said.err
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [f"00001_{kind}.dcm" for kind in KINDS]
    made = pydicom.dcmread(tmp_path / "out" / "00001_report.dcm")
    assert made.DeviceSerialNumber == read_metadata(run)["sha256"]


def test_a_batch_of_dicom_images_ends_as_dicom(
    trained: Trained, maker: ModelIdentity, data: Path, tmp_path: Path
) -> None:
    """From files to files: frames share map and report, rows number the files, and others are passed over."""
    folder = tmp_path / "in"
    folder.mkdir()
    cr(folder / "a.dcm")
    shutil.copy(BUNDLED / "CT_small.dcm", folder / "b.dcm")
    (folder / "c.dcm").write_bytes((folder / "b.dcm").read_bytes()[:9000])
    shutil.copy(next((data / "test" / "normal").iterdir()), folder / "d.png")
    us(folder / "e.dcm")
    objects = DicomFolder(tmp_path / "out", maker)
    sinks = [ScoreTable(tmp_path / "scores.csv"), objects]
    batch = score_files(trained.artifact.scorer, find_images([folder]), sinks)
    frames = pydicom.dcmread(folder / "e.dcm").NumberOfFrames
    assert batch.verdicts.total() == 3 + frames
    assert [record.path.name for record, _ in batch.refusals] == ["c.dcm"]
    assert objects.not_dicom == 1
    expected = [f"{row:05d}_{kind}.dcm" for row in (1, 2, 5) for kind in KINDS]
    expected += [f"{5 + frame:05d}_overlay.dcm" for frame in range(1, frames)]
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == sorted(expected)
    scored = list(score(trained.artifact.scorer, unfold(find_images([folder])), maps=True))
    for row, frame in ((1, None), (2, None), (5, 1)):
        record, found = scored[row - 1]
        overlay = pydicom.dcmread(tmp_path / "out" / f"{row:05d}_overlay.dcm")
        shown = picture(Result(found, frame, found.outside), read_image(record.path, at=record.at).pixels, maker)
        np.testing.assert_allclose(overlay.pixel_array.astype(int), shown, atol=2)  # batches round differently
        made = pydicom.dcmread(tmp_path / "out" / f"{row:05d}_map.dcm")
        [reference] = made.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == pydicom.dcmread(record.path).SOPInstanceUID
        assert reference.get("ReferencedFrameNumber") == frame
    made = pydicom.dcmread(tmp_path / "out" / "00005_map.dcm")
    assert made.NumberOfFrames == frames
    for frame, (record, found) in enumerate(scored[4:], 1):
        expected_map = resample(found.maps["anomaly"], read_image(record.path, at=record.at).pixels.shape[:2])
        np.testing.assert_allclose(made.pixel_array[frame - 1], expected_map, rtol=1e-3, atol=1e-3)


def test_an_image_given_twice_gets_its_results_twice(trained: Trained, maker: ModelIdentity, tmp_path: Path) -> None:
    for path in (mr(tmp_path / "mr.dcm"), us(tmp_path / "us.dcm")):
        frames = int(pydicom.dcmread(path).get("NumberOfFrames", 1))
        out = tmp_path / path.stem
        score_files(trained.artifact.scorer, find_images([path, path]), [DicomFolder(out, maker)])
        made = [pydicom.dcmread(out / f"{row:05d}_map.dcm") for row in (1, 1 + frames)]
        assert [one.NumberOfFrames for one in made] == [frames, frames]
        assert made[0].SOPInstanceUID == made[1].SOPInstanceUID


def test_results_that_cannot_be_written_are_listed_with_the_refusals(
    trained: Trained, maker: ModelIdentity, tmp_path: Path
) -> None:
    data = pydicom.dcmread(cr(tmp_path / "cr.dcm"))
    del data.StudyInstanceUID
    data.save_as(tmp_path / "cr.dcm")
    objects = DicomFolder(tmp_path / "out", maker)
    batch = score_files(trained.artifact.scorer, find_images([tmp_path / "cr.dcm"]), [objects])
    assert batch.refusals == []
    [(record, error)] = objects.refused
    assert batch.verdicts.total() == 1
    assert record.path == tmp_path / "cr.dcm"
    assert error.found == "no valid StudyInstanceUID, so no DICOM result can refer to it"


def test_a_value_that_cannot_be_written_is_the_header_s_fault(tmp_path: Path) -> None:
    """pydicom raises OSError for it, as if the disk had failed; the batch must go on."""
    data = pydicom.dcmread(cr(tmp_path / "cr.dcm"))
    data.BitsStored = 70_000
    refused = write_object(tmp_path / "out.dcm", "report", lambda: data, tmp_path / "cr.dcm")
    assert isinstance(refused, ImageError)
    assert refused.found == "no report can be made from its header (ValueError)"
    assert not (tmp_path / "out.dcm").exists()


def test_what_is_not_the_header_s_fault_ends_the_run(tmp_path: Path) -> None:
    def without_memory() -> Dataset:
        raise MemoryError

    data = pydicom.dcmread(cr(tmp_path / "cr.dcm"))
    with pytest.raises(MemoryError):
        write_object(tmp_path / "out.dcm", "report", without_memory, tmp_path / "cr.dcm")
    with pytest.raises(FileNotFoundError):
        write_object(tmp_path / "none" / "out.dcm", "report", lambda: data, tmp_path / "cr.dcm")
