"""Masks: what a mask may be in its form, and what it may not be beside its image."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from aeflow.data.loader import mask_of, region_of
from aeflow.data.records import read_records, stray_masks
from aeflow.data.slices import unfold
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Slice
from aeflow.imageio.masks import read_mask_of

SHAPE = (64, 60, 8)
GRID = np.diag([2.0, 2, 5, 1])
MARK = np.zeros(SHAPE, np.uint8)
MARK[16:32, 10:30, 2:5] = 1


def volume(path: Path, voxels: np.ndarray, affine: np.ndarray = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return volume(tmp_path / "scan.nii.gz", np.random.default_rng(0).integers(1, 99, SHAPE).astype(np.int16))


def blob(shape: tuple[int, ...]) -> np.ndarray:
    """Return what a network says of a lesion in the middle: near 1 there, and little everywhere."""
    far = sum((np.indices(shape)[i] / side - 0.5) ** 2 for i, side in enumerate(shape))
    return np.exp(-30 * far)


def moved(x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    affine = GRID.copy()
    affine[:3, 3] = x, y, z
    return affine


def turned() -> tuple[np.ndarray, np.ndarray]:
    """The mask as a program stores it that counts from the left: other voxels, the same places."""
    affine = GRID @ np.array([[-1.0, 0, 0, 63], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return MARK[::-1], affine


@pytest.mark.parametrize(
    ("voxels", "affine"), [(MARK, GRID), (7 * MARK.astype(np.int16), GRID), (MARK, moved(0.9)), turned()]
)
def test_a_mask_on_its_images_grid_marks_the_same_voxels(scan, tmp_path, voxels, affine):
    mask = volume(tmp_path / "mask.nii.gz", voxels, affine)
    for index in range(SHAPE[2]):
        got = read_mask_of(scan, mask, at=Slice(index, "axial"))
        np.testing.assert_array_equal(got, MARK[::-1, ::-1, index].T)


@pytest.mark.parametrize(
    ("voxels", "affine", "found"),
    [
        (MARK, moved(100, 0, 50), "on another grid than its image's: up to 112 mm apart in space"),
        (MARK, moved(x=1.1), "up to 1.1 mm apart in space"),
        (MARK[::-1], np.diag([-2.0, 2, 5, 1]), "mm apart in space"),  # turned, and not put back in its place
        (np.pad(MARK, ((0, 0), (0, 0), (0, 2))), GRID, "64 x 60 x 10 voxels where there are 64 x 60 x 8"),
        (MARK[:, :, :6], GRID, "64 x 60 x 6 voxels where"),
        (MARK[::2, ::2], np.diag([4.0, 4, 5, 1]), "32 x 30 x 8 voxels where"),
        (1 - MARK, GRID, "its image, the border included: inverted, it seems; write 0 where nothing is"),
        (np.ones_like(MARK), GRID, "marks 100% of its image"),
        (0 * MARK, GRID, "nothing is marked"),
        (blob(SHAPE).astype(np.float32), GRID, "fades out as probabilities do"),
    ],
)
def test_a_volumes_mask_that_is_not_its_images_is_refused_for_every_slice(scan, tmp_path, voxels, affine, found):
    mask = volume(tmp_path / "mask.nii.gz", voxels, affine)
    for index in range(SHAPE[2]):
        with pytest.raises(ImageError, match=r"^image [0-9a-f]{12}: a mask") as caught:
            read_mask_of(scan, mask, at=Slice(index, "axial"))
        assert found in str(caught.value)


SPOT = np.zeros((96, 96), np.uint8)
SPOT[20:50, 30:60] = 1


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return picture(tmp_path / "a.png", np.random.default_rng(0).integers(1, 99, (96, 96), np.uint8))


@pytest.mark.parametrize("pixels", [SPOT, 255 * SPOT, 3 * SPOT.astype(np.uint16), 255 * SPOT[::2, ::2]])
def test_a_pictures_mask_may_have_any_values_and_resolution(tmp_path, image, pixels):
    np.testing.assert_array_equal(read_mask_of(image, picture(tmp_path / "m.png", pixels)), pixels > 0)


def test_smoothed_edges_are_no_probabilities(tmp_path, image):
    smooth = np.asarray(Image.fromarray(255 * SPOT).resize((64, 64)).resize((96, 96), Image.Resampling.BICUBIC))
    assert len(np.unique(smooth)) > 32
    assert read_mask_of(image, picture(tmp_path / "m.png", smooth)).any()


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (SPOT[:60], "a mask of 60 x 96 pixels where its image has 96 x 96; draw it on the image itself, or resample"),
        (1 - SPOT, "marks 90% of its image, the border included: inverted"),
        (0 * SPOT, "a mask in which nothing is marked; mark the place, or leave the mask out"),
        ((255 * blob((96, 96))).astype(np.uint8), "a mask that fades out as probabilities do"),
    ],
)
def test_a_pictures_mask_that_is_not_its_images_is_refused(tmp_path, image, pixels, found):
    with pytest.raises(ImageError) as caught:
        read_mask_of(image, picture(tmp_path / "m.png", pixels))
    assert found in str(caught.value)


def test_a_picture_is_no_mask_of_a_volume_nor_a_volume_of_a_picture(tmp_path, scan, image):
    with pytest.raises(ImageError, match="a mask of 1 slice for an image of 8 slices"):
        read_mask_of(scan, picture(tmp_path / "m.png", SPOT), at=Slice(3, "axial"))
    with pytest.raises(ImageError, match="a mask of 8 slices for an image of 1 slice"):
        read_mask_of(image, volume(tmp_path / "m.nii.gz", MARK))


def test_the_label_says_if_a_mask_may_be_empty(tmp_path, image):
    rows = ("spot,0", "none,0", "spot,1", "none,1")
    for name, pixels in (("spot", SPOT), ("none", 0 * SPOT)):
        picture(tmp_path / f"{name}.png", pixels)
    (tmp_path / "manifest.csv").write_text(
        "path,split,label,mask,region\n"
        + "".join(f"{i}.png,test,{row[-1]},{row[:4]}.png,{row[:4]}.png\n" for i, row in enumerate(rows))
    )
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(image.read_bytes())
    said = []
    for record in read_records(tmp_path):
        for read in (mask_of, region_of):
            try:
                said.append(bool(read(record, 96).any()))
            except ImageError as error:
                said.append(error.found)
    empty = "a mask in which nothing is marked"
    lesion = "a mask that marks a lesion in an image labelled normal"
    assert said == [lesion, True, False, empty, True, True, empty, empty]


def test_the_slices_of_a_volume_whose_mask_does_not_fit_are_not_called_abnormal(tmp_path):
    voxels = np.random.default_rng(0).integers(1, 99, SHAPE).astype(np.int16)
    volume(tmp_path / "test/abnormal/a.nii.gz", voxels)
    volume(tmp_path / "test/mask/a.nii", MARK)  # another ending, the same name
    assert [r.label for r in unfold(read_records(tmp_path))] == [None, None, 1, 1, 1, None, None, None]
    for wrong in (MARK[:, :, :6], 0 * MARK):
        volume(tmp_path / "test/mask/a.nii", wrong)
        records = unfold(read_records(tmp_path))
        assert {record.label for record in records} == {None}
        with pytest.raises(ImageError):
            mask_of(records[0], 32)


def test_masks_that_fit_no_image_are_counted_and_named(tmp_path):
    for name in ("normal/n.png", "abnormal/a.png", "mask/a_mask.png", "mask/n.png", "region/x.png", "region/a.png"):
        picture(tmp_path / "test" / name, SPOT)
    first, second = stray_masks(tmp_path, read_records(tmp_path))
    assert first.startswith("1 of 2 masks in test/mask fits no image and is not used (mask ")
    assert second.startswith("1 of 2 regions in test/region fits no image and is not used (region ")
    assert second.endswith("); give each the name of its image; --identify shows names")
