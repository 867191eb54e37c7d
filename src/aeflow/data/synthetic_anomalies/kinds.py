"""Kinds of synthetic anomalies: functions of image, weight of each pixel, tissue and random numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from aeflow.data.synthetic_anomalies.shapes import TAIL_SHARE, Pixels, Weight, grey_range, place

FOCUS_CONTRAST = (0.10, 0.45)  # of a focus, as a share of the range of the tissue's grey values
VEIL_STRENGTH = (0.15, 0.50)  # share of the contrast below it that haze takes
BLUR_SPREAD = (0.012, 0.04)  # spread of the Gaussian that removes texture, as a share of the shorter side


def opacity(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image brighter there, up to white: ``x + a w``."""
    return pixels + np.float32(rng.uniform(*FOCUS_CONTRAST) * grey_range(pixels, tissue)) * weight


def hollow(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image darker there, down to black: ``x - a w``."""
    return pixels - np.float32(rng.uniform(*FOCUS_CONTRAST) * grey_range(pixels, tissue)) * weight


def blurred(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image with texture lost there: ``(1 - w) x + w (G * x)``."""
    sigma = rng.uniform(*BLUR_SPREAD) * min(pixels.shape[1:])
    smooth = gaussian_filter(pixels, (0, sigma, sigma))
    changed: Pixels = pixels + weight * (smooth - pixels)
    return changed


def pasted(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image with another place of itself pasted in, brought to the brightness there, with a soft edge."""
    width = tissue.shape[1]
    here = np.average(np.indices(tissue.shape).reshape(2, -1), axis=1, weights=weight.ravel() + 1e-9)
    there = place(rng, tissue, away=here)
    moved = np.roll(pixels, tuple(np.round(here - there).astype(int)), axis=(1, 2))
    if rng.random() < 0.5:  # mirrored, like structures of the other side of the body
        moved = np.roll(moved[:, :, ::-1], round(2 * here[1]) - width + 1, axis=2)
    edge = weight * (1 - weight) + 1e-6
    offset = ((pixels - moved) * edge).sum(axis=(1, 2)) / edge.sum()
    changed: Pixels = pixels + weight * (moved + offset[:, None, None] - pixels)
    return changed


def haze(pixels: Pixels, weight: Weight, tissue: NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Return the image under a veil of one grey value: ``(1 - a w) x + a w v``."""
    low, high = np.quantile(pixels[:, tissue], (0.5, 1 - TAIL_SHARE))
    veil = weight * np.float32(rng.uniform(*VEIL_STRENGTH))
    return pixels + veil * (np.float32(rng.uniform(low, high)) - pixels)
