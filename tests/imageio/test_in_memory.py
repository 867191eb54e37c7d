"""Images that are no files are taken as the same image in a file is."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from aeflow.imageio.errors import EmptyImageError, ImageError
from aeflow.imageio.in_memory import image_in_memory
from aeflow.imageio.reader import read_image


def noise(kind: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.random(shape).astype(kind) if kind[0] == "f" else rng.integers(0, np.iinfo(kind).max, shape, kind)


@pytest.mark.parametrize(("kind", "shape"), [("u1", (40, 48)), ("u1", (40, 48, 3)), ("u2", (40, 48))])
def test_an_array_and_a_picture_give_the_pixels_of_their_file(tmp_path, kind, shape):
    array = noise(kind, *shape)
    picture = PIL.Image.fromarray(array)
    picture.save(tmp_path / "a.png")
    want = read_image(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(image_in_memory(array).pixels, want)
    np.testing.assert_array_equal(image_in_memory(picture).pixels, want)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK"])
def test_pictures_of_other_modes_give_the_pixels_of_their_file(tmp_path, mode):
    picture = PIL.Image.fromarray(noise("u1", 40, 48, 3)).convert(mode)
    form = "tiff" if mode == "CMYK" else "png"
    picture.save(tmp_path / f"a.{form}")
    want = read_image(tmp_path / f"a.{form}").pixels
    np.testing.assert_allclose(image_in_memory(picture).pixels, want, atol=1e-6)


def test_a_tensor_has_its_channels_first_or_last():
    array = noise("f4", 40, 48, 3)
    for tensor in (torch.from_numpy(array), torch.from_numpy(array).permute(2, 0, 1).requires_grad_()):
        np.testing.assert_array_equal(image_in_memory(tensor).pixels, array)
    grey = noise("f4", 1, 40, 48)
    np.testing.assert_array_equal(image_in_memory(torch.from_numpy(grey)).pixels, grey[0])


def test_a_stated_range_is_black_to_white_and_nothing_is_stretched():
    hounsfield = np.linspace(-1024, 3000, 1600).reshape(40, 40).astype("i2")
    pixels = image_in_memory(hounsfield, (-1000, 1000)).pixels
    np.testing.assert_allclose(pixels, ((hounsfield + 1000.0) / 2000).clip(0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.zeros((40, 40, 4)), r"has the shape \(40, 40, 4\); give \(H, W\) or \(H, W, 3\)"),
        (np.zeros((0, 40)), r"has the shape \(0, 40\)"),
        (np.full((40, 40), np.nan), "NaN"),
        (noise("f8", 40, 40) * 255, r"float64 from .* which says nothing of their range; state it: value_range="),
        (noise("i2", 40, 40), "int16 from"),
        (np.full((40, 40), "a"), "values of the type"),
        ([[1 + 2j] * 40] * 40, "values of the type complex128"),
        ([[1, 2], [1]], "no array"),
        (np.zeros((3, 40, 40)), r"has the shape \(3, 40, 40\); .*, as np\.moveaxis\(array, 0, -1\) does"),
        (None, "no image but NoneType; give a path, an array"),
        (b"\x89PNG", "no image but bytes"),
    ],
)
def test_what_cannot_be_taken_is_said(given, found):
    with pytest.raises(ImageError, match=found):
        image_in_memory(given)


@pytest.mark.parametrize("value_range", [(5, 5), (255, 0), 255])
def test_a_range_that_is_none_is_said(value_range):
    with pytest.raises(ImageError, match=r"value_range=.*; give the value of black, then that of white"):
        image_in_memory(np.eye(40), value_range)


def test_an_empty_image_is_one_here_too():
    with pytest.raises(EmptyImageError):
        image_in_memory(np.zeros((40, 40)))
