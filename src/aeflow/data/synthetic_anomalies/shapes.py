"""Places and outlines of synthetic anomalies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

ROUGHNESS = 0.35  # departure of an outline from its ellipse
TAIL_SHARE = 0.02  # share of the tissue's pixels at either end that its range leaves out

Pixels = NDArray[np.float32]  # (3, H, W) in [0, 1]
Weight = NDArray[np.float32]  # (H, W) in [0, 1]: the anomaly's share of each pixel


def blob(rng: np.random.Generator, tissue: NDArray[np.bool_], sizes: tuple[float, float]) -> Weight:
    """Return a soft, uneven ellipse somewhere in the tissue.

    ``1 / (1 + exp((r - 1) / softness))``, r its relative radius.
    """
    side = min(tissue.shape)
    diameter = side * np.exp(rng.uniform(*np.log(sizes)))
    stretch = np.exp(rng.uniform(-0.4, 0.4))
    angle = rng.uniform(0, np.pi)
    softness = rng.uniform(0.06, 0.25)
    y, x = np.indices(tissue.shape) - place(rng, tissue)[:, None, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = np.hypot(along / stretch, across * stretch) / (diameter / 2)
    noise = gaussian_filter(rng.standard_normal(tissue.shape), diameter / 6)
    radius += ROUGHNESS * noise / max(float(noise.std()), 1e-9) * 0.5
    weight: Weight = (1 / (1 + np.exp(((radius - 1) / softness).clip(-60, 60)))).astype(np.float32)
    return weight


def place(
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


def grey_range(pixels: Pixels, tissue: NDArray[np.bool_]) -> float:
    """Return the range of the tissue's grey values, without its ends."""
    low, high = np.quantile(pixels[:, tissue], (TAIL_SHARE, 1 - TAIL_SHARE))
    return float(high - low)
