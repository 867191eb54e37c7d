"""Synthetic anomalies: repeatable, where tissue is, of the kind that their key says."""

from __future__ import annotations

from collections import Counter
from itertools import count

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace

from aeflow.data.augment import BACKGROUND
from aeflow.data.synthetic_anomalies import KINDS, kind_of, synthetic, with_mask
from helpers.data import texture


def image(seed: int = 0) -> np.ndarray:
    """Fine and coarse texture in a disc of tissue, air around it."""
    noise = np.random.default_rng(seed).standard_normal((64, 64))
    y, x = np.indices((64, 64)) - 31.5
    grey = texture(seed) / 255 + 0.03 * gaussian_filter(noise, 0.7)
    return np.repeat(np.where(np.hypot(y, x) < 24, grey.clip(0.1, 0.9), 0)[None], 3, axis=0).astype(np.float32)


def keys_of(kind: str, n: int) -> list[str]:
    found = (str(i) for i in count() if kind_of(str(i)) == kind)
    return [next(found) for _ in range(n)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_decides_all(kind: str) -> None:
    a, b = keys_of(kind, 2)
    assert np.array_equal(synthetic(image(), a), synthetic(image(), a))
    assert not np.array_equal(synthetic(image(), a), synthetic(image(), b))


def test_each_kind_is_as_likely() -> None:
    found = Counter(kind_of(str(i)) for i in range(2000))
    assert found.keys() == KINDS.keys()
    assert all(abs(n / 2000 - 1 / len(KINDS)) < 0.04 for n in found.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
def test_it_is_an_image_of_which_only_tissue_has_changed(kind: str, shape: tuple[int, int]) -> None:
    x = image()[:, : shape[0], :]
    x = np.concatenate([x, x[:, :, : shape[1] - 64]], axis=2) if shape[1] > 64 else x
    for key in keys_of(kind, 8):
        y, mask = with_mask(x, key)
        assert (y.shape, y.dtype, mask.shape) == (x.shape, np.float32, shape)
        assert 0 <= y.min() <= y.max() <= 1
        assert np.array_equal(y[0], y[2])  # grey stays grey
        assert np.array_equal(y[x <= BACKGROUND], x[x <= BACKGROUND])
        assert mask.any()
        assert not (mask & (x[0] <= BACKGROUND)).any()
        difference = np.abs(y - x)[0]
        assert difference[mask].mean() > 3 * difference[~mask].mean()
        assert difference.max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_does_what_it_is_called(kind: str) -> None:
    def inside(change: object) -> np.ndarray:
        found = []
        for seed, key in enumerate(keys_of(kind, 12)):
            y, mask = with_mask(image(seed), key)
            before, after = (change(one) for one in (image(seed)[0], y[0]))  # type: ignore[operator]
            found.append((after[mask].mean() - before[mask].mean()) / (before[mask].std() + 1e-3))
        return np.array(found)

    detail = inside(lambda x: np.abs(laplace(x)))
    brighter = inside(lambda x: x)
    if kind == "opacity":
        assert (brighter > 0).all()
    elif kind == "hollow":
        assert (brighter < 0).all()
    elif kind == "blur":
        assert (detail < 0).mean() > 0.8  # at the rim of tissue a softer edge has detail, too
    elif kind == "haze":
        assert (detail < 0).mean() > 0.8  # a veil takes contrast
    else:
        assert abs(brighter.mean()) < 0.5  # other tissue, of the brightness found there


def test_channels_of_a_colour_image_change_alike_and_blank_ones_stay() -> None:
    colours = np.stack([image(seed)[0] for seed in range(3)])
    for key in map(str, range(10)):
        assert synthetic(colours, key).shape == colours.shape
        for blank in (np.zeros((3, 64, 64), np.float32), np.full((3, 64, 64), 0.5, np.float32)):
            y = synthetic(blank, key)
            assert np.isfinite(y).all()
            assert blank.any() or not y.any()
