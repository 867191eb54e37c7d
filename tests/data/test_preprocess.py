"""Preprocessing: a resize that loses nothing it need not lose, the same as torch's, and masks that stay masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aeflow.data import preprocess
from aeflow.data.preprocess import preprocess_mask
from aeflow.data.records import find_images
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Image
from aeflow.imageio.reader import read_image
from helpers.data import SAMPLE
from helpers.image_files import noise, png


def image(*shape: int, seed: int = 0) -> Image:
    pixels = np.random.default_rng(seed).random(shape).astype(np.float32)
    return Image(pixels, None, None, "test")


def test_the_size_asked_for_is_left_bit_exact():
    grey, colour = image(64, 64), image(64, 64, 3)
    np.testing.assert_array_equal(preprocess(grey, 64), np.stack([grey.pixels] * 3))
    np.testing.assert_array_equal(preprocess(colour, 64), np.moveaxis(colour.pixels, -1, 0))


@pytest.mark.parametrize("shape", [(100, 37), (37, 100), (224, 224), (33, 32), (500, 64)])
@pytest.mark.parametrize("size", [32, 64, 100])
def test_the_resize_equals_that_of_torch(shape, size):
    colour = image(*shape, 3)
    x = torch.from_numpy(np.moveaxis(colour.pixels, -1, 0).copy())[None]
    expected = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    np.testing.assert_allclose(preprocess(colour, size), expected[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 48), (40, 48, 3), (224, 224), (300, 32)])
def test_shape_type_and_range(shape):
    x = preprocess(image(*shape), 56)
    assert x.shape == (3, 56, 56)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    assert x.flags.writeable
    assert x.min() >= 0
    assert x.max() <= 1


def test_grey_and_the_same_in_colour_agree():
    grey = image(90, 70)
    colour = Image(np.stack([grey.pixels] * 3, axis=-1), None, None, "test")
    np.testing.assert_array_equal(preprocess(grey, 56), preprocess(colour, 56))


def test_a_constant_stays_constant_and_fine_stripes_become_their_mean():
    for value in (0.0, 0.3, 1.0):
        constant = Image(np.full((97, 41), value, dtype=np.float32), None, None, "test")
        np.testing.assert_allclose(preprocess(constant, 32), value, atol=1e-6)
    stripes = Image((np.arange(512 * 512).reshape(512, 512) % 2).astype(np.float32), None, None, "test")
    np.testing.assert_allclose(preprocess(stripes, 32)[:, 2:-2, 2:-2], 0.5, atol=0.01)


def test_sixteen_bits_survive_the_resize(tmp_path):
    levels = np.linspace(0, 2000, 64 * 64).astype(np.uint16).reshape(64, 64)  # 3 % of the range: 8 grey levels of 256
    (tmp_path / "image").write_bytes(png(levels, 0))
    x = preprocess(read_image(tmp_path / "image"), 48)
    assert len(np.unique(x)) > 1500


def test_masks_keep_their_two_values_and_their_place(tmp_path):
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[16:32, 8:40] = 1
    (tmp_path / "mask").write_bytes(png(mask, 0))
    as_image = Image(mask.astype(np.float32), None, None, "test")
    for given in (tmp_path / "mask", str(tmp_path / "mask"), as_image):
        for size in (32, 64, 128):
            got = preprocess_mask(given, size)
            assert got.dtype == np.bool_
            expected = np.zeros((size, size), dtype=bool)
            expected[size // 4 : size // 2, size // 8 : size * 5 // 8] = True
            np.testing.assert_array_equal(got, expected)


def test_a_mask_is_true_where_any_channel_is(tmp_path):
    colour = noise("u1", 3) // 250
    got = preprocess_mask(Image(colour.astype(np.float32), None, None, "test"), 40)
    (tmp_path / "mask").write_bytes(png(colour, 2))
    np.testing.assert_array_equal(got, preprocess_mask(tmp_path / "mask", 40))
    assert 0 < got.mean() < 1
    np.testing.assert_array_equal(preprocess_mask(Image(np.zeros((9, 9), np.float32), None, None, ""), 9), False)


def test_a_mask_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ImageError, match="cannot be opened"):
        preprocess_mask(tmp_path / "gone.png", 32)


def test_real_images_pass_unchanged_at_their_own_size():
    for record in find_images([SAMPLE / "test" / "abnormal"])[:20]:
        real = read_image(record.path)
        np.testing.assert_array_equal(preprocess(real, 224)[1], real.pixels)
        assert abs(preprocess(real, 96).mean() - real.pixels.mean()) < 0.01
