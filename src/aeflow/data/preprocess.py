"""Preprocessing of an image as read to the tensor that the encoder gets; there is no other preprocessing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from aeflow.imageio.image import Image, Slice
from aeflow.imageio.limits import LIMITS, Limits
from aeflow.imageio.reader import not_zero, read_mask


def preprocess(image: Image, size: int) -> NDArray[np.float32]:
    """Return pixels (3, size, size) float32 in [0, 1], grey on all three channels.

    Both sides are scaled independently and nothing is cropped: antialiased bilinear in float32 (a triangle as wide as
    the reduction); bit-exact if no side changes.
    """
    channels = [image.pixels] if image.pixels.ndim == 2 else list(np.moveaxis(image.pixels, -1, 0))
    resized = np.stack([_resize(channel, size, PIL.Image.Resampling.BILINEAR) for channel in channels])
    return np.repeat(resized, 3, axis=0) if len(resized) == 1 else resized


def preprocess_mask(
    mask: Image | Path | str, size: int, limits: Limits = LIMITS, at: Slice | None = None
) -> NDArray[np.bool_]:
    """Return the mask (size, size), true where its nearest pixel is not zero in any channel; raises as read_mask."""
    return resize_mask(not_zero(mask.pixels) if isinstance(mask, Image) else read_mask(mask, limits, at), size)


def resize_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Return a mask (H, W) as (size, size), each pixel the nearest one's."""
    return _resize(mask.astype(np.float32), size, PIL.Image.Resampling.NEAREST).astype(np.bool_)


def _resize(channel: NDArray[np.float32], size: int, method: PIL.Image.Resampling) -> NDArray[np.float32]:
    """Return a channel (H, W) in [0, 1] resized to (size, size)."""
    resized = PIL.Image.fromarray(channel).resize((size, size), method)
    pixels: NDArray[np.float32] = np.asarray(resized)
    return pixels.clip(0, 1)
