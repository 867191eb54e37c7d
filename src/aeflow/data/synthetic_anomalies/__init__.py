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
from aeflow.data.synthetic_anomalies.kinds import blurred, haze, hollow, opacity, pasted
from aeflow.data.synthetic_anomalies.shapes import Pixels, Weight, blob

LOCAL_SIZE = (0.05, 0.30)  # diameter of a local anomaly, as a share of the shorter side
DIFFUSE_SIZE = (0.35, 0.80)  # the same of a diffuse anomaly
TISSUE_LEVEL = 0.06  # least grey value around an anomaly's centre; below, it fades down to air's
SMOOTHING = 0.015  # share of a side: spread of the Gaussian that separates tissue from noise in air

# A new kind is one function in ``kinds`` and one line here. The order decides which kind an image's key draws.
KINDS: dict[str, Callable[[Pixels, Weight, NDArray[np.bool_], np.random.Generator], Pixels]] = {
    "opacity": opacity,
    "hollow": hollow,
    "blur": blurred,
    "paste": pasted,
    "haze": haze,
}


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
    weight = blob(rng, tissue, DIFFUSE_SIZE if kind == "haze" else LOCAL_SIZE)
    weight *= ((brightest - BACKGROUND) / (TISSUE_LEVEL - BACKGROUND)).clip(0, 1)
    changed = KINDS[kind](pixels, weight, tissue, rng).clip(0, 1)
    return changed.astype(np.float32), weight > 0.5


def kind_of(key: str) -> str:
    """Return the one of KINDS that an image of this key gets; all are equally likely."""
    return list(KINDS)[generator(f"{key}/kind").integers(len(KINDS))]
