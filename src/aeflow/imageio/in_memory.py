"""Images that are no files: arrays, tensors, and those of Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Image, RawImage
from aeflow.imageio.limits import LIMITS
from aeflow.imageio.raster import over_black
from aeflow.imageio.reader import finished

WHERE = Path("the image given")  # where errors say that they are
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of 16-bit grey
PLAIN = ("1", "L", "RGB", "F", *DEEP)
GIVE = "give (H, W) or (H, W, 3)"


def image_in_memory(given: Any, value_range: tuple[float, float] | None = None) -> Image:
    """Return an image of an array, a tensor or Pillow as one that was read from a file.

    (H, W) or (H, W, 3); of a tensor (1, H, W) and (3, H, W), too. ``value_range`` are the values that are to be 0 and
    1; by default those of the type for unsigned integers, 0 and 1 for floats, which must lie between them. ImageError
    if it cannot be taken so.
    """
    samples = _samples(given)
    if samples.ndim == 0:
        raise ImageError(WHERE, f"no image but {type(given).__name__}", "give a path, an array, a tensor or a picture")
    if samples.ndim not in (2, 3) or (samples.ndim == 3 and samples.shape[-1] not in (1, 3)) or not samples.size:
        first = samples.ndim == 3 and samples.shape[0] in (1, 3) and samples.size > 0
        remedy = f"{GIVE}, as np.moveaxis(array, 0, -1) does" if first else GIVE
        raise ImageError(WHERE, f"has the shape {samples.shape}", remedy)
    if samples.shape[0] * samples.shape[1] > LIMITS.max_pixels:
        raise ImageError(WHERE, f"{samples.shape[1]} x {samples.shape[0]} pixels", f"at most {LIMITS.max_pixels:,}")
    samples = samples[..., 0] if samples.ndim == 3 and samples.shape[-1] == 1 else samples
    if samples.dtype.kind not in "buif":
        raise ImageError(WHERE, f"holds values of the type {samples.dtype}", "give integers or floats")
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise ImageError(WHERE, "values are NaN or infinite", "give every pixel a finite value")
    return finished(RawImage(_scaled(samples, value_range)), WHERE)


def _samples(given: Any) -> NDArray[Any]:
    """Return the samples of an image as they are, channels last."""
    if isinstance(given, PIL.Image.Image):
        if "A" in given.getbands() or "transparency" in given.info:  # what is transparent is black, as in files
            return over_black(given)
        picture = np.asarray(given if given.mode in PLAIN else given.convert("RGB"))
        return picture.astype(np.uint16) if given.mode in DEEP else picture
    if hasattr(given, "detach"):  # a tensor of torch, which is not imported here
        tensor: NDArray[Any] = given.detach().cpu().numpy()
        return np.moveaxis(tensor, 0, -1) if tensor.ndim == 3 and tensor.shape[0] in (1, 3) else tensor
    try:
        return np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise ImageError(WHERE, "no array", GIVE) from error


def _scaled(samples: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[Any]:
    """Return samples whose type says their range."""
    if value_range is None:
        low, high = float(samples.min()), float(samples.max())
        if samples.dtype.kind == "i" or (samples.dtype.kind == "f" and (low < 0 or high > 1)):
            found = f"{samples.dtype} from {low:g} to {high:g}, which says nothing of their range"
            raise ImageError(WHERE, found, "state it: value_range=(black, white)")
        return samples
    if not isinstance(value_range, tuple | list) or len(value_range) != 2 or not value_range[0] < value_range[1]:
        raise ImageError(WHERE, f"value_range={value_range}", "give the value of black, then that of white")
    black, white = value_range
    return np.asarray(((samples.astype(np.float64) - black) / (white - black)).clip(0, 1))
