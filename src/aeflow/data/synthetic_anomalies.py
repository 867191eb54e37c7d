"""Synthetic anomalies, made from normal images, on which choices are ranked if no abnormal image is at hand.

Each kind copies one way in which disease changes an image: a focus that is brighter or darker than its surroundings,
texture that is lost, tissue where it does not belong, and a veil over a large part. Strength, size and place are drawn
over a wide range, so that some are hard to find. None of them is a disease: the best method on these need not be the
best on patients.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from aeflow.data.augment import BACKGROUND, generator

LOCAL_SIZE = (0.05, 0.30)  # diameter of a local anomaly, as a share of the shorter side
DIFFUSE_SIZE = (0.35, 0.80)  # the same of a diffuse anomaly
FOCUS_CONTRAST = (0.10, 0.45)  # of a focus, as a share of the range of the tissue's grey values
VEIL_STRENGTH = (0.15, 0.50)  # share of the contrast below it that haze takes
BLUR_SPREAD = (0.012, 0.04)  # spread of the Gaussian that removes texture, as a share of the shorter side
ROUGHNESS = 0.35  # departure of an outline from its ellipse
TISSUE_LEVEL = 0.06  # least grey value around an anomaly's centre; below, it fades down to air's
SMOOTHING = 0.015  # share of a side: spread of the Gaussian that separates tissue from noise in air
TAIL_SHARE = 0.02  # share of the tissue's pixels at either end that its range leaves out

Pixels = NDArray[np.float32]  # (3, H, W) in [0, 1]
Weight = NDArray[np.float32]  # (H, W) in [0, 1]: the anomaly's share of each pixel


def synthetic(pixels: Pixels, key: str) -> Pixels:
    """Return ``pixels`` (3, H, W) in [0, 1] with one anomaly; ``key`` decides its kind, place, size and strength.

    Its centre is never in air, and air within it stays as it is; an image of air alone stays unchanged.
    """
    return with_mask(pixels, key)[0]


def with_mask(pixels: Pixels, key: str) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return the image that ``synthetic`` makes, and the mask (H, W) of the anomaly."""
    brightest = pixels.max(axis=0)
    tissue = gaussian_filter(brightest, SMOOTHING * min(brightest.shape)) > TISSUE_LEVEL
    if not tissue.any():
        return pixels.copy(), tissue
    rng = generator(f"{key}/synthetic")
    kind = kind_of(key)
    weight = _blob(rng, tissue, DIFFUSE_SIZE if kind == "haze" else LOCAL_SIZE)
    weight *= ((brightest - BACKGROUND) / (TISSUE_LEVEL - BACKGROUND)).clip(0, 1)
    changed = KINDS[kind](pixels, weight, tissue, rng).clip(0, 1)
    return changed.astype(np.float32), weight > 0.5


def kind_of(key: str) -> str:
    """Return the one of KINDS that an image of this key gets; all are equally likely."""
    return list(KINDS)[generator(f"{key}/kind").integers(len(KINDS))]


def _opacity(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image brighter there, up to white: ``x + a w``."""
    return pixels + np.float32(rng.uniform(*FOCUS_CONTRAST) * _range(pixels, tissue)) * weight


def _hollow(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image darker there, down to black: ``x - a w``."""
    return pixels - np.float32(rng.uniform(*FOCUS_CONTRAST) * _range(pixels, tissue)) * weight


def _blurred(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image with texture lost there: ``(1 - w) x + w (G * x)``."""
    sigma = rng.uniform(*BLUR_SPREAD) * min(pixels.shape[1:])
    smooth = gaussian_filter(pixels, (0, sigma, sigma))
    changed: Pixels = pixels + weight * (smooth - pixels)
    return changed


def _pasted(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image with another place of itself pasted in, brought to the brightness there, with a soft edge."""
    width = tissue.shape[1]
    here = np.average(np.indices(tissue.shape).reshape(2, -1), axis=1, weights=weight.ravel() + 1e-9)
    there = _place(rng, tissue, away=here)
    moved = np.roll(pixels, tuple(np.round(here - there).astype(int)), axis=(1, 2))
    if rng.random() < 0.5:  # mirrored, like structures of the other side of the body
        moved = np.roll(moved[:, :, ::-1], round(2 * here[1]) - width + 1, axis=2)
    edge = weight * (1 - weight) + 1e-6
    offset = ((pixels - moved) * edge).sum(axis=(1, 2)) / edge.sum()
    changed: Pixels = pixels + weight * (moved + offset[:, None, None] - pixels)
    return changed


def _haze(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image under a veil of one grey value: ``(1 - a w) x + a w v``."""
    low, high = np.quantile(pixels[:, tissue], (0.5, 1 - TAIL_SHARE))
    veil = weight * np.float32(rng.uniform(*VEIL_STRENGTH))
    return pixels + veil * (np.float32(rng.uniform(low, high)) - pixels)


KINDS: dict[str, Callable[[Pixels, Weight, NDArray[np.bool_], np.random.Generator], Pixels]] = {
    "opacity": _opacity,
    "hollow": _hollow,
    "blur": _blurred,
    "paste": _pasted,
    "haze": _haze,
}


def _blob(rng: np.random.Generator, tissue: NDArray[np.bool_], sizes: tuple[float, float]) -> Weight:
    """Return a soft, uneven ellipse somewhere in the tissue.

    ``1 / (1 + exp((r - 1) / softness))``, r its relative radius.
    """
    side = min(tissue.shape)
    diameter = side * np.exp(rng.uniform(*np.log(sizes)))
    stretch = np.exp(rng.uniform(-0.4, 0.4))
    angle = rng.uniform(0, np.pi)
    softness = rng.uniform(0.06, 0.25)
    y, x = np.indices(tissue.shape) - _place(rng, tissue)[:, None, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = np.hypot(along / stretch, across * stretch) / (diameter / 2)
    noise = gaussian_filter(rng.standard_normal(tissue.shape), diameter / 6)
    radius += ROUGHNESS * noise / max(float(noise.std()), 1e-9) * 0.5
    weight: Weight = (1 / (1 + np.exp(((radius - 1) / softness).clip(-60, 60)))).astype(np.float32)
    return weight


def _place(
    rng: np.random.Generator, tissue: NDArray[np.bool_], away: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return a pixel (row, column) of the tissue, if possible at least a quarter of a side from ``away``."""
    allowed = tissue
    if away is not None:
        distance = np.hypot(*(np.indices(tissue.shape) - away[:, None, None]))
        far = allowed & (distance > min(tissue.shape) / 4)
        allowed = far if far.any() else allowed
    rows, columns = np.nonzero(allowed)
    index = rng.integers(len(rows))
    return np.array([rows[index], columns[index]], dtype=np.float64)


def _range(pixels: Pixels, tissue: NDArray[np.bool_]) -> float:
    """Return the range of the tissue's grey values, without its ends."""
    low, high = np.quantile(pixels[:, tissue], (TAIL_SHARE, 1 - TAIL_SHARE))
    return float(high - low)
