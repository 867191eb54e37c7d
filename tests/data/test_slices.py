"""Files that hold several images become as many records, whose patients and studies are those of their headers."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.fileset import FileSet

from aeflow.data.load_files import load_files
from aeflow.data.loader import decoded
from aeflow.data.records import find_images, read_records
from aeflow.data.slices import one_image, refusals_among, unfold
from aeflow.imageio.errors import EmptyImageError, FileError, ImageError
from aeflow.imageio.image import Slice
from aeflow.imageio.reader import read_image, read_mask
from helpers.data import texture

SIDE, SLICES = 40, 6


def dicom_file(path: Path, source: str = "CT_small.dcm", **changes: object) -> Path:
    """One of pydicom's own files, changed."""
    found = pydicom.dcmread(get_testdata_file(source))
    for keyword, value in changes.items():
        setattr(found, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path)
    return path


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume whose first axial slice is empty, labelled abnormal, with a mask in slices 3 and 4."""
    voxels = np.stack([texture(i)[:SIDE, :SIDE].astype(np.int16) for i in range(SLICES)], axis=2)
    voxels[:, :, 0] = 0
    mask = np.zeros_like(voxels, dtype=np.uint8)
    mask[5:9, 5:9, 2:4] = 1
    for name, data in (("test/abnormal/v.nii.gz", voxels), ("test/mask/v.nii.gz", mask)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / name)
    return tmp_path


def test_a_volume_becomes_its_slices(volume: Path) -> None:
    records = unfold(read_records(volume))
    assert [record.at for record in records] == [Slice(i, "axial") for i in range(SLICES)]
    assert {record.study for record in records} == {record.patient for record in records} == {"test/abnormal/v.nii.gz"}
    assert [record.slice_number for record in records] == [1, 2, 3, 4, 5, 6]
    assert len(unfold(read_records(volume), "coronal")) == SIDE


def test_a_slice_without_a_mark_is_not_called_abnormal(volume: Path) -> None:
    records = unfold(read_records(volume))
    assert [record.label for record in records] == [None, None, 1, 1, None, None]
    for record in records:
        assert (record.mask is not None) == (record.label == 1)
        if record.mask is not None:
            assert read_mask(record.mask, at=record.at).sum() == 16


def test_an_empty_slice_is_passed_over_and_an_empty_image_refused(volume: Path) -> None:
    first, second, *_ = unfold(read_records(volume))
    with pytest.raises(EmptyImageError) as caught:
        read_image(first.path, at=first.at)
    assert read_image(second.path, at=second.at).pixels.shape == (SIDE, SIDE)
    [whole] = read_records(volume)
    assert refusals_among([(first, caught.value)]) == []
    assert refusals_among([(whole, caught.value)]) == [(whole, caught.value)]


def test_dicom_files_get_patient_and_study_from_their_headers(tmp_path: Path) -> None:
    for i, patient in enumerate(["A", "A", "B"]):
        dicom_file(tmp_path / f"{i}", PatientID=patient, StudyInstanceUID=f"1.2.{i // 2}")
    records = unfold(find_images([tmp_path]))
    assert [record.patient for record in records] == ["A", "A", "B"]
    assert [record.study for record in records] == ["1.2.0", "1.2.0", "1.2.1"]
    assert [record.at for record in records] == [None] * 3


def test_a_manifest_knows_the_patient_better_than_the_header(tmp_path: Path) -> None:
    dicom_file(tmp_path / "a.dcm", PatientID="header")
    (tmp_path / "manifest.csv").write_text("path,split,label,patient\na.dcm,train,0,manifest\n")
    [record] = unfold(read_records(tmp_path))
    assert record.patient == "manifest"


def test_frames_are_records(tmp_path: Path) -> None:
    path = dicom_file(tmp_path / "frames", "SC_rgb_rle_2frame.dcm")
    records = unfold(find_images([path]))
    assert [record.at for record in records] == [Slice(i) for i in range(2)]
    frames = pydicom.dcmread(path).pixel_array
    for record in records:
        assert record.at is not None
        np.testing.assert_allclose(
            read_image(record.path, at=record.at).pixels, frames[record.at.index] / 255, atol=1e-6
        )


def test_a_dicomdir_stands_for_the_files_it_lists(tmp_path: Path) -> None:
    files = FileSet()
    for i in range(3):
        files.add(dicom_file(tmp_path / "loose" / str(i), SOPInstanceUID=f"1.2.3.{i}"))
    files.write(tmp_path / "disc")
    listed = unfold(find_images([tmp_path / "disc" / "DICOMDIR"]))
    assert len(listed) == 3
    walked = unfold(find_images([tmp_path / "disc"]))
    assert sorted(record.path for record in walked) == sorted(record.path for record in listed)
    assert all((tmp_path / "disc").as_posix() in record.name for record in listed)


def test_a_file_that_cannot_be_read_stays_and_is_refused_later(tmp_path: Path) -> None:
    path = dicom_file(tmp_path / "cut")
    path.write_bytes(path.read_bytes()[:3000])
    [record] = unfold(find_images([path]))
    assert record.at is None
    with pytest.raises(ImageError):
        read_image(record.path)


def test_one_image_of_a_volume_has_to_be_named(volume: Path) -> None:
    path = volume / "test/abnormal/v.nii.gz"
    with pytest.raises(ImageError, match="6 images in one file; name a slice"):
        one_image(path)
    assert one_image(path, slice_number=2).at == Slice(1, "axial")
    for wrong in (0, 7):
        with pytest.raises(ImageError, match="slices count from 1"):
            one_image(path, slice_number=wrong)


def test_a_patient_that_cannot_be_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dicom_file(tmp_path / "scan.dcm", PatientID="x" * 5000)
    [record] = unfold(find_images([tmp_path]))
    assert record.study is not None
    said = capsys.readouterr().err
    assert "its Patient ID (0010,0020) cannot be read" in said
    assert "scan.dcm" not in said
    assert "xx" not in said


def test_a_volume_that_is_damaged_is_refused_once(volume: Path) -> None:
    [file] = (volume / "test" / "abnormal").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    files = find_images([file])
    slices = unfold(files)
    assert len(slices) == SLICES
    [(record, refusal)] = load_files(files, 32, "axial", known=())
    assert (record.path, type(refusal)) == (file, FileError)
    pairs = [(record, found) for record, found in decoded(slices, 32) if isinstance(found, ImageError)]
    assert len(pairs) == SLICES
    assert len(refusals_among(pairs)) == 1
