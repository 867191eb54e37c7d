"""Augmented views: repeatable, mild, and free of borders."""

from __future__ import annotations

import numpy as np
import pytest

from aeflow.data.augment import augment
from conftest import texture


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


def test_edges_are_continued_not_black() -> None:
    flat = np.full((3, 64, 64), 0.6, np.float32)
    flat[:, 32:] = 0.65
    for key in "abcdef":
        assert augment(flat, key).min() > 0.4


def test_air_stays_black() -> None:
    x = image()
    x[:, :20] = 0
    assert augment(x, "a")[:, :5].max() == 0
