"""Changed views of an image, as another positioning, exposure, scanner or export would give them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import numpy as np
import PIL.Image
from numpy.typing import NDArray

ROTATION = 5.0  # degrees either way, at a reach of 1; so are the next two
ZOOM = 0.06  # share either way
SHIFT = 0.03  # of a side, either way
CONTRAST = 0.15  # share either way
BRIGHTNESS = 0.05  # of the full range, either way
GAMMA = 0.3  # of its logarithm, either way
CROP = 0.08  # share of a side, at each edge
QUALITY = (30, 95)  # of JPEG
BACKGROUND = 0.02  # pixels up to this value are air, which no exposure changes

Change = Callable[[NDArray[np.float32], str], NDArray[np.float32]]  # (pixels, key) -> changed pixels


def augment(pixels: NDArray[np.float32], key: str, reach: float = 1.0) -> NDArray[np.float32]:
    """Return a view of ``pixels`` (3, H, W) in [0, 1]: turned, zoomed, shifted, with other contrast and brightness.

    ``key`` decides the change, so the same image and key give the same view anywhere; ``reach``, up to 4, multiplies
    the ranges of turn, zoom and shift.
    """
    rng = generator(key)
    angle = np.deg2rad(reach * rng.uniform(-ROTATION, ROTATION))
    zoom = 1 + reach * rng.uniform(-ZOOM, ZOOM)
    height, width = pixels.shape[1:]
    centre = np.array([width, height]) / 2
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = centre - turn @ centre + reach * rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
    matrix = (*turn[0], offset[0], *turn[1], offset[1])
    contrast = 1 + rng.uniform(-CONTRAST, CONTRAST)
    brightness = 0.5 * (1 - contrast) + rng.uniform(-BRIGHTNESS, BRIGHTNESS)

    def moved(channel: NDArray[np.float32]) -> NDArray[np.float32]:
        # A border of the edge's values, as wide as the largest move: no black wedges that the model would learn.
        border = int(0.1 * (1 + reach) * max(height, width))
        image = PIL.Image.fromarray(np.pad(channel, border, mode="edge"))
        a, b, c, d, e, f = matrix
        shifted = (a, b, c + border * (1 - a - b), d, e, f + border * (1 - d - e))
        image = image.transform(image.size, PIL.Image.Transform.AFFINE, shifted, PIL.Image.Resampling.BILINEAR)
        return np.asarray(image)[border : border + height, border : border + width]

    grey = bool((pixels == pixels[:1]).all())
    view = np.stack([moved(pixels[0])] * 3 if grey else [moved(channel) for channel in pixels])
    return np.where(view > BACKGROUND, contrast * view + brightness, view).clip(0, 1).astype(np.float32)


def of_reach(reach: float) -> Change:
    """Return ``augment`` with a reach, under a name that keeps its cache apart from others."""

    def augmented(pixels: NDArray[np.float32], key: str) -> NDArray[np.float32]:
        return augment(pixels, key, reach)

    augmented.__name__ = f"augment, reach {reach:g}"
    return augmented


def recapture(pixels: NDArray[np.float32], key: str) -> NDArray[np.float32]:
    """Return ``augment``'s view with another tone curve, crop and compression, as from another scanner or export.

    ``pixels`` (3, H, W) in [0, 1]; ``key`` decides the change.
    """
    rng = generator(f"{key}/recapture")
    view = augment(pixels, key) ** np.float32(np.exp(rng.uniform(-GAMMA, GAMMA)))
    height, width = view.shape[1:]
    left, top, right, bottom = rng.uniform(0, CROP, 4) * (width, height, width, height)
    image = as_image(view)
    box = (left, top, width - right, height - bottom)
    image = image.resize((width, height), PIL.Image.Resampling.BILINEAR, box=box)
    return compressed(image, int(rng.integers(QUALITY[0], QUALITY[1] + 1)))


def as_image(pixels: NDArray[np.float32]) -> PIL.Image.Image:
    """Return pixels (3, H, W) in [0, 1] as a colour image of 8 bits."""
    return PIL.Image.fromarray((pixels * 255).round().astype(np.uint8).transpose(1, 2, 0))


def compressed(image: PIL.Image.Image, quality: int) -> NDArray[np.float32]:
    """Return a colour image after compression by JPEG, (3, H, W) in [0, 1]."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    with PIL.Image.open(file) as stored:
        return (np.asarray(stored).transpose(2, 0, 1) / np.float32(255)).astype(np.float32)


def generator(key: str) -> np.random.Generator:
    """Return the random number generator of a key, the same anywhere."""
    return np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
