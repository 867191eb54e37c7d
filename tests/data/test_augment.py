"""Augmented views: repeatable, mild, and free of borders."""

from __future__ import annotations

import numpy as np
import pytest

from aeflow.data.augment import augment, of_reach
from helpers.data import texture


def image(seed: int = 0) -> np.ndarray:
    return np.repeat(texture(seed)[None].astype(np.float32) / 255, 3, axis=0)


def test_key_decides_the_view() -> None:
    assert np.array_equal(augment(image(), "a"), augment(image(), "a"))
    assert not np.array_equal(augment(image(), "a"), augment(image(), "b"))


@pytest.mark.parametrize("key", list("abcdefgh"))
def test_views_are_mild(key: str) -> None:
    x = image()
    view = augment(x, key)
    assert view.shape == x.shape
    assert view.dtype == np.float32
    assert 0 <= view.min() <= view.max() <= 1
    assert np.array_equal(view[0], view[2])  # grey stays grey
    difference = np.abs(view - x).mean()
    assert 0.005 < difference < 0.3
    unrelated = np.abs(image(1) - x).mean()
    assert np.corrcoef(view[0].ravel(), x[0].ravel())[0, 1] > 0.5, unrelated


@pytest.mark.parametrize("reach", [0.0, 1.0, 2.0, 4.0])
def test_edges_are_continued_not_black(reach: float) -> None:
    flat = np.full((3, 64, 64), 0.6, np.float32)
    flat[:, 32:] = 0.65
    for key in range(60):
        assert augment(flat, str(key), reach).min() > 0.4


def test_reach_multiplies_the_movement_and_nothing_else() -> None:
    y, x = np.mgrid[:65, :65]
    spot = np.exp(-((y - 32) ** 2 + (x - 32) ** 2) / 18).astype(np.float32)

    def away(reach: float, key: str) -> np.ndarray:
        """Where the spot, at the centre, is moved to: neither turning nor zooming moves it."""
        view = augment(np.stack([spot] * 3), key, reach)[0]
        weight = np.where(view > view.min() + 0.3 * np.ptp(view), view, 0)
        return np.array([(weight * y).sum(), (weight * x).sum()]) / weight.sum() - 32

    for key in "abcd":
        assert np.abs(away(0.0, key)).max() < 0.6  # half a pixel lies between its centre and the image's
        still, once, twice = (away(reach, key) for reach in (0.0, 1.0, 2.0))
        assert np.abs((twice - still) - 2 * (once - still)).max() < 0.35
    flat = np.full((3, 32, 32), 0.5, np.float32)
    assert np.allclose(augment(flat, "a", 0.0), augment(flat, "a", 3.0))  # contrast and brightness are as they were


def test_a_reach_has_a_name_of_its_own() -> None:
    assert np.array_equal(of_reach(2.0)(image(), "a"), augment(image(), "a", 2.0))
    assert of_reach(2.0).__name__ == of_reach(2.0).__name__ != of_reach(1.5).__name__  # features are cached by it


def test_air_stays_black() -> None:
    x = image()
    x[:, :20] = 0
    assert augment(x, "a")[:, :5].max() == 0
