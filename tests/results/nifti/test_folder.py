"""NIfTI out: each map's voxels lie where the volume's or the slices' pixels lie, with no text of their headers."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from pydicom import dcmread

from aeflow.data.records import Record, find_images
from aeflow.data.slices import slice_records
from aeflow.errors import OutputError
from aeflow.imageio import nifti as reader
from aeflow.imageio.errors import EmptyImageError, FileError, ImageError
from aeflow.imageio.limits import LIMITS
from aeflow.imageio.reader import decode_header, read_image
from aeflow.results.nifti import NiftiFolder
from aeflow.scoring.scorer import Score
from helpers.dicom_sources import ct, enhanced_mr, us, write
from helpers.nifti_files import OBLIQUE, nifti

AXES = ("axial", "coronal", "sagittal")
SHAPE = (5, 6, 7)
ORIENTATIONS = [
    ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]


def score_of(score_map: np.ndarray) -> Score:
    return Score(0.0, 1.0, "normal", 2.0, {}, {}, {"anomaly": np.asarray(score_map, np.float32)}, ())


def records_of(path: Path, axis: str = "axial") -> list[Record]:
    [record] = find_images([path])
    return slice_records(record, decode_header(path.read_bytes(), path, axis), axis)


def written(
    folder: Path, results: Iterable[tuple[Record, Score | ImageError]], overwrite: bool = False
) -> list[nibabel.Nifti1Image]:
    """Give a folder these results, row by row; return the maps in it."""
    with NiftiFolder(folder, overwrite) as sink:
        for number, (record, result) in enumerate(results, 1):
            sink.add(number, record, result)
    return [nibabel.load(path) for path in sorted(folder.glob("*.nii*"))]


def as_read(path: Path, axis: str = "axial") -> list[tuple[Record, Score]]:
    """The slices of a volume, each with its own pixels for a map."""
    content, found = path.read_bytes(), []
    for record in records_of(path, axis):
        pixels = reader.read(content, path, LIMITS, record.at.index, axis).samples
        found.append((record, score_of(pixels)))
    return found


def in_range(path: Path) -> np.ndarray:
    """A volume as stored, its values brought to [0, 1] as the reader does."""
    voxels = np.asanyarray(nibabel.load(path).dataobj).astype(np.float64)
    low, high = reader.volume(path.read_bytes(), path, LIMITS).range(path)
    return ((voxels - low) / (high - low)).clip(0, 1).astype(np.float32)


def same_space(made: nibabel.Nifti1Image, source: nibabel.Nifti1Image) -> None:
    assert made.get_data_dtype() == np.float32
    assert made.shape == source.shape
    assert np.array_equal(made.affine, source.affine)
    assert made.header.get_xyzt_units() == source.header.get_xyzt_units()
    assert made.header.get_zooms() == source.header.get_zooms()
    for form in ("sform", "qform"):
        ours, code = getattr(made, f"get_{form}")(coded=True)
        theirs, wanted = getattr(source, f"get_{form}")(coded=True)
        assert code == wanted
        assert (ours is theirs is None) or np.array_equal(ours, theirs)
    assert nibabel.aff2axcodes(made.affine) == nibabel.aff2axcodes(source.affine)


def test_a_map_lies_on_its_volumes_voxels_however_these_are_stored(tmp_path: Path) -> None:
    assert len(ORIENTATIONS) == 48
    rng, affine = np.random.default_rng(0), np.eye(4)
    affine[:3, :3] = OBLIQUE
    plain = nibabel.Nifti1Image(rng.integers(0, 100, SHAPE).astype(np.int16), affine)
    for number, orientation in enumerate(ORIENTATIONS):
        path = tmp_path / f"{number}.nii"
        nibabel.save(plain.as_reoriented(orientation), path)
        [made] = written(tmp_path / f"out{number}", as_read(path, AXES[number % 3]))
        same_space(made, nibabel.load(path))
        assert np.array_equal(made.get_fdata(dtype=np.float32), in_range(path))


@st.composite
def spaces(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Shapes and affines: any rotation, anisotropic voxels, any of the 48 arrangements, far from the origin."""
    number = st.floats(-1, 1, allow_subnormal=False)
    turn = draw(st.tuples(number, number, number, number).filter(lambda q: np.linalg.norm(q) > 0.1))
    rotation = nibabel.quaternions.quat2mat(np.array(turn) / np.linalg.norm(turn))
    zooms = [draw(st.floats(0.2, 8)) for _ in range(3)]
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    affine = np.eye(4)
    affine[:3, :3] = rotation * zooms
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    orientation = draw(st.sampled_from(ORIENTATIONS))
    return np.array(shape), affine @ inv_ornt_aff(orientation, shape)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    space=spaces(),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any),
    units=st.sampled_from(["mm", "meter", "micron", "unknown"]),
    axis=st.sampled_from(AXES),
    kind=st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    rank=st.integers(3, 5),
    zipped=st.booleans(),
)
def test_a_map_has_the_space_of_its_volume(space, codes, units, axis, kind, rank, zipped, tmp_path_factory):
    (shape, affine), folder = space, tmp_path_factory.mktemp("space")
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(*shape, *[1] * (rank - 3)) % 50
    voxels.flat[-1] = 60
    image = kind(voxels, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.header.set_xyzt_units(units)
    path = folder / f"v.nii{'.gz' * zipped}"
    nibabel.save(image, path)
    if not np.ptp(np.asarray(image.dataobj)):
        return
    [made] = written(folder / "out", as_read(path, axis))
    same_space(made, nibabel.load(path))
    assert isinstance(made, kind)
    assert np.array_equal(made.get_fdata(dtype=np.float32), in_range(path))


def test_no_text_of_a_header_is_taken_over(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    for field, length in (("db_name", 18), ("aux_file", 24), ("intent_name", 16), ("descrip", 80)):
        image.header[field] = b"CANARY^NAME"[:length]
    image.header["cal_max"], image.header["intent_code"] = 7, 3
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"CANARY^NAME"))
    path = tmp_path / "CANARY.nii"
    nibabel.save(image, path)
    [made] = written(tmp_path / "out", as_read(path))
    [file] = (tmp_path / "out").iterdir()
    assert file.name == "00001.nii.gz"
    assert b"CANARY" not in file.read_bytes()
    content = gzip.decompress(file.read_bytes())
    assert b"CANARY" not in content
    assert len(content) == 352 + 4 * 60
    assert made.header["descrip"].item() == b"aeflow anomaly map, sum of terms; research use, not a medical device"
    assert made.header["intent_code"] == 0


def test_a_colour_volume_and_one_of_the_other_byte_order_have_maps_of_their_shape(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    (tmp_path / "rgb.nii").write_bytes(nifti(colour, rgb=True))
    (tmp_path / "big.nii").write_bytes(nifti(colour[..., 0], big_endian=True, version=2))
    for name in ("rgb", "big"):
        path = tmp_path / f"{name}.nii"
        maps = [(record, score_of(np.full((6, 5), record.at.index))) for record in records_of(path)]
        [made] = written(tmp_path / name, maps)
        assert made.shape == SHAPE
        assert np.allclose(made.affine, nibabel.load(path).affine)
        canonical = nibabel.as_closest_canonical(made).get_fdata()
        assert np.array_equal(canonical, np.broadcast_to(np.arange(7), SHAPE))


def test_a_refused_slice_is_0_and_a_refused_file_has_no_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "v.nii"
    path.write_bytes(nifti(np.ones(SHAPE, np.int16), affine=np.eye(3)))
    records = records_of(path)
    some = [score_of(np.ones((6, 5))) for _ in records]
    one_refused = [EmptyImageError(path, "x", "y") if i == 2 else score for i, score in enumerate(some)]
    [made] = written(tmp_path / "one", zip(records, one_refused, strict=True))
    assert made.get_fdata().sum(axis=(0, 1)).tolist() == [30, 30, 0, 30, 30, 30, 30]
    of_file = [*some[:3], FileError(path, "took too long", "split it")]
    assert written(tmp_path / "file", zip(records, of_file, strict=False)) == []
    nothing = [EmptyImageError(path, "x", "y") for _ in records]
    assert written(tmp_path / "nothing", zip(records, nothing, strict=True)) == []
    # the same volume named twice has two maps, each under its first row
    written(tmp_path / "twice", [*zip(records, some, strict=True)] * 2)
    assert sorted(file.name for file in (tmp_path / "twice").iterdir()) == ["00001.nii.gz", "00008.nii.gz"]
    assert capsys.readouterr().err == ""


# DICOM series


def write_series(
    folder: Path, n: int = 6, series: str = "1.2.3", skip: Sequence[int] = (), **changes: object
) -> list[Path]:
    """Write an oblique series, 2.5 mm from slice to slice, with names in another order than its slices."""
    folder.mkdir(parents=True, exist_ok=True)
    along_row, along_column = np.array([0.6, 0.8, 0]), np.array([0, 0, 1.0])
    normal, rng = np.cross(along_row, along_column), np.random.default_rng(1)
    files = []
    for i in [i for i in rng.permutation(n) if i not in skip]:
        file = folder / f"{len(files):03}.dcm"
        elements = {
            "FrameOfReferenceUID": "1.2.3.9",
            "SeriesInstanceUID": series,
            "SOPInstanceUID": f"{series}.{i + 1}",
            "ImagePositionPatient": [f"{x:.4f}" for x in np.array([-12.5, 3.25, -100.0]) + 2.5 * i * normal],
            "ImageOrientationPatient": [*along_row, *along_column],
            "PixelSpacing": ["0.7", "0.35"],
        }
        pixels = rng.integers(0, 1000, (36, 48)).astype(np.uint16)
        files.append(write(file, "CT", pixels, **{**elements, **changes}))
    return files


def maps_of(files: Sequence[Path]) -> list[tuple[Record, Score]]:
    """Rows of DICOM files, each with its own pixels for a map."""
    records = [record for file in files for record in records_of(file)]
    return [(record, score_of(read_image(record.path, at=record.at).pixels)) for record in records]


def test_a_series_is_a_volume_in_the_space_of_the_patient(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in")
    rows = maps_of(files)
    [made] = written(tmp_path / "out", rows)
    assert made.shape == (48, 36, 6)
    assert made.header.get_xyzt_units()[0] == "mm"
    assert np.allclose(made.header.get_zooms(), (0.35, 0.7, 2.5))
    assert made.header["sform_code"] == made.header["qform_code"] == 1
    assert np.allclose(made.get_qform(), made.affine, atol=1e-4)
    assert "research use" in made.header["descrip"].item().decode()
    voxels, to_voxel = made.get_fdata(), np.linalg.inv(made.affine)
    for file, (_, score) in zip(files, rows, strict=True):
        header = dcmread(file)
        axes = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        for row, column in ((0, 0), (35, 47), (7, 30)):  # PS3.3 C.7.6.2.1.1
            place = np.array(header.ImagePositionPatient, float) + axes[0] * 0.35 * column + axes[1] * 0.7 * row
            index = to_voxel @ [-place[0], -place[1], place[2], 1]
            nearest = tuple(np.rint(index[:3]).astype(int))
            assert np.allclose(index[:3], nearest, atol=1e-3)
            assert voxels[nearest] == score.map[row, column]


def test_series_may_be_mixed_and_frames_of_a_file_are_slices(tmp_path: Path) -> None:
    one, two = write_series(tmp_path / "a"), write_series(tmp_path / "b", series="1.2.4")
    frames = enhanced_mr(tmp_path / "frames.dcm")
    rows = maps_of([file for pair in zip(one, two, strict=True) for file in pair] + [frames])
    made = written(tmp_path / "out", rows)
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["00001.nii.gz", "00002.nii.gz", "00013.nii.gz"]
    assert np.array_equal(made[0].affine, made[1].affine)
    assert not np.array_equal(made[0].get_fdata(), made[1].get_fdata())
    assert np.array_equal(made[2].affine, [[-0.5, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 4, -12], [0, 0, 0, 1]])
    lowest = rows[-1][1].map  # the top comes first
    assert np.array_equal(made[2].get_fdata()[:, :, 0].T, lowest)


def test_a_tilted_gantry_is_a_sheared_volume(tmp_path: Path) -> None:
    files = []
    for i in range(4):
        place = {"ImagePositionPatient": [0, 0.5 * i, 2 * i], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        [file] = write_series(tmp_path / str(i), n=1, **place)
        files.append(file)
    [made] = written(tmp_path / "out", maps_of(files))
    assert np.allclose(made.affine[:3, 2], [0, -0.5, 2])
    assert (made.header["sform_code"], made.header["qform_code"]) == (1, 0)


def test_a_refused_slice_of_a_series_is_no_gap(tmp_path: Path) -> None:
    rows = maps_of(write_series(tmp_path / "in"))
    rows[2] = rows[2][0], EmptyImageError(rows[2][0].path, "every pixel the same", "export it again")
    [made] = written(tmp_path / "out", rows)
    assert sorted(np.ptp(made.get_fdata(), axis=(0, 1)) > 0) == [False, *[True] * 5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"skip": [3]}, "a gap: slices 2.5 mm apart, and two of them 5 mm"),
        ({"ImagePositionPatient": [0, 0, 0]}, "5 slices at the place of another"),
        ({"n": 1}, "a single slice"),
    ],
)
def test_slices_that_are_no_volume_are_noted(
    change: dict, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written(tmp_path / "out", maps_of(write_series(tmp_path / "in", **change))) == []
    [note] = capsys.readouterr().err.splitlines()
    assert said in note
    assert note.startswith("note: ")
    assert "no NIfTI map; give all slices of one volume, each once" in note
    assert "000.dcm" not in note, "the user did not type it"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"PixelSpacing": ["0.5", "0.5"]}, "different pixel spacings"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "not parallel"),
    ],
)
def test_one_odd_slice_is_noted(change: dict, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [*write_series(tmp_path / "in", skip=[5]), *write_series(tmp_path / "odd", skip=range(5), **change)]
    assert written(tmp_path / "out", maps_of(files)) == []
    assert said in capsys.readouterr().err


def test_what_is_no_volume_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [us(tmp_path / "us.dcm"), ct(tmp_path / "ct.dcm")]
    assert written(tmp_path / "out", maps_of(files)) == []
    err = capsys.readouterr().err
    assert "note: 5 images belong to no volume and no series of slices: no NIfTI map of them" in err
    assert "a single slice" in err


def test_maps_replace_those_of_an_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "in" / "00001.nii.gz"
    path.parent.mkdir()
    path.write_bytes(nifti(np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.int16), zipped=True))
    rows = as_read(path)
    for overwrite in (False, True):
        assert len(written(tmp_path / "out", rows, overwrite)) == 1
    with pytest.raises(OutputError, match="replace it with --overwrite"):
        written(tmp_path / "out", rows)
    (tmp_path / "out" / "00002.nii.gz").write_bytes(path.read_bytes())
    with pytest.raises(OutputError, match="is there already, and not by aeflow"):
        written(tmp_path / "out", rows, overwrite=True)
    sink = NiftiFolder(path.parent)
    sink.inputs.add([path])
    with pytest.raises(OutputError, match="holds images that are read here"):
        sink.__enter__()
