"""Other scanners, as changes of pixels (3, H, W) in [0, 1]: one change for all images, or another for each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import PIL.Image
from scipy.ndimage import gaussian_filter

from aeflow._types import Floats32
from aeflow.data.augment import BACKGROUND, CROP, GAMMA, as_image, compressed, recapture

Scanner = Callable[[Floats32, int], Floats32]  # (pixels, number of the image) -> pixels


def _tone(gamma: float) -> Scanner:
    return lambda x, number: x ** np.float32(np.exp(gamma))


def _contrast(factor: float, brightness: float) -> Scanner:
    """Return a change of grey values about their middle, as ``augment`` makes it: air stays as it is."""

    def change(x: Floats32, number: int) -> Floats32:
        moved = factor * x + 0.5 * (1 - factor) + brightness
        return np.where(x > BACKGROUND, moved, x).clip(0, 1).astype(np.float32)

    return change


def _sharpness(sigma: float) -> Scanner:
    return lambda x, number: np.asarray(gaussian_filter(x, (0, sigma, sigma)), np.float32)


def _noise(deviation: float) -> Scanner:
    """Return grey noise, another for each image."""

    def change(x: Floats32, number: int) -> Floats32:
        noise = np.random.default_rng(number).normal(0, deviation, x.shape[1:])
        return (x + noise).clip(0, 1).astype(np.float32)

    return change


def _frame(share: float) -> Scanner:
    """Return a narrower frame: a share of the side less at each edge."""

    def change(x: Floats32, number: int) -> Floats32:
        height, width = x.shape[1:]
        box = (share * width, share * height, (1 - share) * width, (1 - share) * height)
        image = as_image(x).resize((width, height), PIL.Image.Resampling.BILINEAR, box=box)
        return (np.asarray(image).transpose(2, 0, 1) / np.float32(255)).astype(np.float32)

    return change


def _whole(key: str) -> Scanner:
    """Return ``recapture`` with the same draw for all images: another tone curve, crop, contrast, turn, compression."""
    return lambda x, number: recapture(x, key)


# Single traits at the end of the range in which ``augment`` and ``recapture`` draw them; then whole scanners as
# ``recapture`` draws them.
SCANNERS: dict[str, Scanner] = {
    "tone curve, darker": _tone(GAMMA),
    "tone curve, brighter": _tone(-GAMMA),
    "contrast 15 % less": _contrast(0.85, 0.0),
    "brightness 5 % more": _contrast(1.0, 0.05),
    "softer (sigma 1 pixel)": _sharpness(1.0),
    "noisier (3 %)": _noise(0.03),
    "narrower frame (8 % a side)": _frame(CROP),
    "compressed (JPEG quality 30)": lambda x, number: compressed(as_image(x), 30),
    "another for each image": lambda x, number: recapture(x, f"drift/{number}"),
    **{f"scanner {name}": _whole(f"drift scanner {name}") for name in "ABC"},
}
