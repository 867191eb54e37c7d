"""An image as read -> the tensor the encoder sees; the only preprocessing there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from aeflow.imageio.image import Image, Slice
from aeflow.imageio.limits import LIMITS, Limits
from aeflow.imageio.reader import not_zero, read_mask


def preprocess(image: Image, size: int) -> NDArray[np.float32]:
    """Pixels (3, size, size) float32 in [0, 1], grey on all three channels; sides are scaled apart, nothing is cropped.

    Antialiased bilinear in float32 (a triangle as wide as the reduction); bit-exact where no side changes.
    """
    channels = [image.pixels] if image.pixels.ndim == 2 else list(np.moveaxis(image.pixels, -1, 0))
    resized = np.stack([_resize(channel, size, PIL.Image.Resampling.BILINEAR) for channel in channels])
    return np.repeat(resized, 3, axis=0) if len(resized) == 1 else resized


def preprocess_mask(
    mask: Image | Path | str, size: int, limits: Limits = LIMITS, at: Slice | None = None
) -> NDArray[np.bool_]:
    """Mask (size, size), true where the nearest pixel of the mask is not zero in any channel; raises as read_mask."""
    abnormal = not_zero(mask.pixels) if isinstance(mask, Image) else read_mask(mask, limits, at)
    return _resize(abnormal.astype(np.float32), size, PIL.Image.Resampling.NEAREST).astype(np.bool_)


def _resize(channel: NDArray[np.float32], size: int, method: PIL.Image.Resampling) -> NDArray[np.float32]:
    resized = PIL.Image.fromarray(channel).resize((size, size), method)
    pixels: NDArray[np.float32] = np.asarray(resized)
    return pixels.clip(0, 1)
