"""PNG, JPEG, TIFF and BMP by Pillow; files that Pillow would silently cut, swap, invert or misread are refused."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.ImageOps import exif_transpose
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.image import RawImage
from aeflow.imageio.limits import Limits
from aeflow.imageio.whole_jpeg import is_whole

CONVERT = "convert it to a 16-bit grey PNG"

# Pillow warns about damaged metadata and goes on. The filter is permanent: catch_warnings is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

Plugin = Callable[[io.BytesIO], ImageFile]
PNG: Plugin = PngImageFile
JPEG: Plugin = JpegImageFile  # the first, if it holds several pictures
TIFF: Plugin = TiffImageFile
BMP: Plugin = BmpImageFile


def read(plugin: Plugin, content: bytes, where: Path, limits: Limits) -> RawImage:
    """Return the samples of a file; ImageError if it is damaged, or would lose something."""
    what = "header is"
    try:
        image = plugin(io.BytesIO(content))  # the header only; PIL.Image.open has a limit of its own, a global
        _check_header(image, content, where, limits)
        what = "pixels are"
        image.load()
        if isinstance(image, JpegImageFile) and not is_whole(content, image.layers):
            raise ImageError(where, "a JPEG of which a part is missing or damaged", "copy or export the file again")
        return RawImage(_samples(image, content))
    except ImageError:
        raise
    except Exception as error:  # Pillow raises some ten kinds for damaged files
        found = f"an image whose {what} damaged or cut off"  # the error's own text may hold a name
        raise ImageError(where, found, "export it again, best as a 16-bit grey PNG") from error


def _check_header(image: ImageFile, content: bytes, where: Path, limits: Limits) -> None:
    """Raise ImageError if the header shows that the file is too large, incomplete, or would lose something."""
    width, height = image.size
    if width * height > limits.max_pixels:
        found = f"{width} x {height} pixels where the limit is {limits.max_pixels}"
        raise ImageLimitError(where, found, "shrink the image or raise max_pixels")
    if getattr(image, "is_animated", False):
        raise ImageError(where, "more than one frame", "save each frame as a file of its own")
    boxes = [tile.extents or (0, 0, width, height) for tile in image.tile]
    stored = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    if stored < width * height:  # Pillow would leave the rest black
        raise ImageError(where, f"holds {stored} of {width * height} pixels", "export or copy the file again")
    lost = _lost(image, content)
    if lost:
        raise ImageError(where, f"{lost}, which cannot be read without loss", CONVERT)


def _lost(image: ImageFile, content: bytes) -> str:
    """Return what Pillow would silently cut to 8 bits, swap, invert or misread in this image; empty if nothing."""
    if isinstance(image, PngImageFile) and content[PNG_DEPTH] == 16 and image.mode != "I;16":
        return "16-bit colour or transparency"
    if isinstance(image, TiffImageFile):
        bits, signed = _bits(image), 2 in image.tag_v2.get(339, (1,))
        if bits > 8 and image.mode not in (*GREY_16_MODES, "I", "F"):
            return "16-bit colour"
        if bits == 32 and image.mode == "I":
            return "32-bit integers"
        if bits == 8 and signed:
            return "signed 8-bit pixels"
        if bits > 8 and image.tag_v2.get(262, 0) == 0:
            return f"{bits}-bit pixels with 0 for white"
        if content.startswith(b"MM") and image.mode in ("I", "F") and image.tag_v2.get(259, 1) != 1:
            return "compressed big-endian signed or float pixels"
    known = (*PLAIN_MODES, *GREY_16_MODES, "I", *ALPHA_MODES, *COLOUR_MODES)
    return "" if image.mode in known else f"pixels of mode {image.mode}"


PLAIN_MODES, GREY_16_MODES, COLOUR_MODES = ("1", "L", "F", "RGB"), ("I;16", "I;16B"), ("CMYK", "YCbCr")
ALPHA_MODES = ("P", "PA", "LA", "La", "RGBA")


def _bits(image: ImageFile) -> int:
    """Return the bits per sample of a TIFF, 0 for other formats."""
    return max(image.tag_v2.get(258, (1,))) if isinstance(image, TiffImageFile) else 0


def _samples(image: ImageFile, content: bytes) -> NDArray[Any]:
    """Return decoded samples: bool, unsigned or signed integers, or floats; (H, W) or (H, W, 3)."""
    exif_transpose(image, in_place=True)
    clear = image.info.get("transparency")
    if image.mode in GREY_16_MODES:
        samples = np.asarray(image).astype(np.uint16)
        if clear is not None:
            return _without_clear(samples, content)
        return samples / np.float32(4095) if _bits(image) == 12 else samples
    if image.mode == "I":
        return np.asarray(image).astype(np.int16)
    if image.mode in ALPHA_MODES:
        return over_black(image)
    samples = np.asarray(image.convert("RGB") if image.mode in COLOUR_MODES else image)
    return samples if clear is None else _without_clear(samples, content)


def over_black(image: PIL.Image.Image) -> NDArray[Any]:
    """Return the colours (H, W, 3) of an image with transparency on black: as stored, or in [0, 1] if any is clear."""
    rgba = np.asarray(image.convert("RGBA"))
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return colour if alpha.min() == 255 else colour * (alpha / np.float32(255)) / np.float32(255)


def _without_clear(samples: NDArray[Any], content: bytes) -> NDArray[Any]:
    """Return the samples of a PNG with its transparent grey or colour (tRNS) black, whatever its depth.

    Pillow stretches grey of 1, 2 and 4 bits to 8, but not the grey that is transparent; of that only the low bits
    count (PNG, 11.3.2.1).
    """
    depth = content[PNG_DEPTH]
    highest = 2**depth - 1
    values = np.frombuffer(_chunk(content, b"tRNS"), ">u2").astype(np.int64) & highest
    if samples.dtype.kind == "b":
        values = values > 0
    elif depth < 8:
        values = values * (255 // highest)
    hidden = np.asarray((np.atleast_3d(samples) == values).all(axis=-1))
    return np.where(hidden if samples.ndim == 2 else hidden[..., np.newaxis], samples.dtype.type(0), samples)


PNG_DEPTH = 24  # where a PNG holds its bits per sample


def _chunk(content: bytes, name: bytes) -> bytes:
    """Return the body of the last chunk of a name before the pixels of a PNG, as Pillow takes it; empty without one."""
    at, body = 8, b""
    while (kind := content[at + 4 : at + 8]) not in (b"IDAT", b""):
        stop = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if kind == name:
            body = content[at + 8 : stop]
        at = stop + 4  # behind the sum
    return body
