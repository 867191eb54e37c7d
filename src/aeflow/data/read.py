"""One image file -> pixels in [0, 1]; the reader is chosen by the file's content, never by its name.

Range: integers are divided by the full range of their type (8 bits / 255, 12 / 4095, 16 / 65535; signed ones are
shifted to start at 0), so 12-bit data stored in 16 bits stays dark. Floats within [0, 1] stay as they are, other
finite floats are stretched from their minimum to their maximum. Colour with R = G = B everywhere becomes grey,
transparency shows black, EXIF rotation is applied, colour profiles and print resolution are ignored.

A file that cannot be read without losing what it holds is refused with an ImageError; nothing is guessed.
"""

from __future__ import annotations

import codecs
import io
import re
import stat
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.ImageOps import exif_transpose
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from aeflow.data import dicom
from aeflow.data.image import Image, Raw
from aeflow.data.limits import LIMITS, Limits
from aeflow.errors import ImageError, ImageLimitError

MIN_SIDE = 32  # pixels; an encoder of stride 32 sees nothing in less
CONVERT = "convert it to a 16-bit grey PNG"

# Pillow warns about damaged metadata and goes on. A filter for good, because catch_warnings is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image(path: Path | str, limits: Limits = LIMITS) -> Image:
    """Pixels in [0, 1] of one image file; ImageError where it cannot be read or holds nothing to look at."""
    raw = _read(Path(path), limits, MIN_SIDE)
    samples = raw.samples
    if samples.ndim == 3 and (samples == samples[..., :1]).all():
        samples = samples[..., 0]
    if (samples == samples[0, 0]).all():
        raise ImageError(path, "every pixel has the same value", "export the image again")
    return Image(_unit(samples), raw.spacing, raw.patient, str(path), raw.modality, raw.photometric)


def read_mask(path: Path | str, limits: Limits = LIMITS) -> NDArray[np.bool_]:
    """Mask (H, W) of one file, true where any channel is not zero; ImageError where it cannot be read."""
    return not_zero(_read(Path(path), limits, min_side=1, lossless=True).samples)


def not_zero(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """(H, W), true where any channel of (H, W) or (H, W, 3) samples is not zero."""
    return np.asarray(np.atleast_3d(samples).any(axis=-1))


def _read(path: Path, limits: Limits, min_side: int, lossless: bool = False) -> Raw:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise ImageError(path, "a folder" if stat.S_ISDIR(status.st_mode) else "not a file", "name an image file")
        if status.st_size == 0:
            raise ImageError(path, "an empty file", "export the image again")
        if status.st_size > limits.max_bytes:
            found = f"{status.st_size} bytes where the limit is {limits.max_bytes}"
            raise ImageLimitError(path, found, "shrink the image or raise max_bytes")
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(path, f"cannot be opened ({reason})", "check the path and its permissions") from error
    form = _recognise(content)
    if form.read is None:
        raise ImageError(path, form.name, form.remedy)
    if lossless and form.name == "JPEG":
        raise ImageError(path, "a mask saved as JPEG, which blurs its border", "save the mask as PNG")
    if lossless and form.name == "DICOM":
        raise ImageError(path, "a mask saved as DICOM, whose zero depends on its window", "save the mask as PNG")
    raw = form.read(content, path, limits, min_side)
    if raw.samples.dtype.kind == "f" and not (finite := np.isfinite(raw.samples)).all():
        found = f"{finite.size - np.count_nonzero(finite)} values are NaN or infinite"
        raise ImageError(path, found, "give every pixel a finite value")
    return raw


def _unit(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples of any type as float32 in [0, 1]."""
    if samples.dtype.kind == "b":
        return samples.astype(np.float32)
    if samples.dtype.kind in "iu":
        low, high = np.iinfo(samples.dtype).min, np.iinfo(samples.dtype).max
        return (samples.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    if samples.min() < 0 or samples.max() > 1:
        wide = samples.astype(np.float64)  # the range of a float32 image may overflow float32
        samples = (wide - wide.min()) / (wide.max() - wide.min())
    return samples.astype(np.float32)


# Formats: what the content starts with, and who reads it. A new format is one reader and one line in FORMATS.

Reader = Callable[[bytes, Path, Limits, int], Raw]  # content, where for errors, limits, least side


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of content, known by bytes at an offset; ``read`` is None where it is known only to be refused."""

    name: str
    marks: tuple[tuple[int, bytes], ...] = ()
    read: Reader | None = None
    remedy: str = "name an image file"

    def matches(self, content: bytes) -> bool:
        return any(content.startswith(mark, offset) for offset, mark in self.marks)


def _with_pillow(plugin: Callable[[io.BytesIO], ImageFile]) -> Reader:
    def read(content: bytes, where: Path, limits: Limits, min_side: int) -> Raw:
        try:
            image = plugin(io.BytesIO(content))  # the header only; PIL.Image.open has a limit of its own, a global
            _check_header(image, content, where, limits, min_side)
            image.load()
            return Raw(_samples(image))
        except ImageError:
            raise
        except Exception as error:  # Pillow raises some ten kinds for damaged files
            found = f"damaged, truncated or of a rare kind ({type(error).__name__}: {error})"
            raise ImageError(where, found, "export it again, best as a 16-bit grey PNG") from error

    return read


def _check_header(image: ImageFile, content: bytes, where: Path, limits: Limits, min_side: int) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        found = f"{width} x {height} pixels where the limit is {limits.max_pixels}"
        raise ImageLimitError(where, found, "shrink the image or raise max_pixels")
    if min(width, height) < min_side:
        found = f"{width} x {height} pixels, nothing to look at"
        raise ImageError(where, found, f"give an image of at least {min_side} x {min_side} pixels")
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
    """What Pillow would quietly cut to 8 bits, swap, invert or misread in this image; empty if nothing."""
    if isinstance(image, PngImageFile) and content[24] == 16 and image.mode != "I;16":
        return "16-bit colour or transparency"
    if isinstance(image, TiffImageFile):
        bits, signed = _bits(image), 2 in image.tag_v2.get(339, (1,))
        if bits > 8 and image.mode not in (*GREY_16, "I", "F"):
            return "16-bit colour"
        if bits == 32 and image.mode == "I":
            return "32-bit integers"
        if bits == 8 and signed:
            return "signed 8-bit pixels"
        if bits > 8 and image.tag_v2.get(262, 0) == 0:
            return f"{bits}-bit pixels with 0 for white"
        if content.startswith(b"MM") and image.mode in ("I", "F") and image.tag_v2.get(259, 1) != 1:
            return "compressed big-endian signed or float pixels"
    return "" if image.mode in (*AS_STORED, *GREY_16, "I", *WITH_ALPHA, *TO_RGB) else f"pixels of mode {image.mode}"


AS_STORED, GREY_16, TO_RGB = ("1", "L", "F", "RGB"), ("I;16", "I;16B"), ("CMYK", "YCbCr")
WITH_ALPHA = ("P", "PA", "LA", "La", "RGBA")


def _bits(image: ImageFile) -> int:
    return max(image.tag_v2.get(258, (1,))) if isinstance(image, TiffImageFile) else 0


def _samples(image: ImageFile) -> NDArray[Any]:
    """Decoded samples: bool, unsigned or signed integers, or floats; (H, W) or (H, W, 3)."""
    exif_transpose(image, in_place=True)
    clear = image.info.get("transparency")
    if image.mode in GREY_16:
        samples = np.asarray(image).astype(np.uint16)
        if clear is not None:
            samples[samples == clear] = 0
        return samples / np.float32(4095) if _bits(image) == 12 else samples
    if image.mode == "I":
        return np.asarray(image).astype(np.int16)
    if image.mode in WITH_ALPHA or clear is not None:
        rgba = np.asarray(image.convert("RGBA"))
        colour, alpha = rgba[..., :3], rgba[..., 3:]
        return colour if alpha.min() == 255 else colour * (alpha / np.float32(255)) / np.float32(255)
    return np.asarray(image.convert("RGB") if image.mode in TO_RGB else image)


def _dicom(content: bytes, where: Path, limits: Limits, min_side: int) -> Raw:
    raw = dicom.read(content, where, limits)
    height, width = raw.samples.shape[:2]
    if min(width, height) < min_side:
        found = f"{width} x {height} pixels, nothing to look at"
        raise ImageError(where, found, f"give an image of at least {min_side} x {min_side} pixels")
    return raw


DICOM = Format("DICOM", (), _dicom)
NIFTI = Format("NIfTI, which is not yet read", ((344, b"n+1\0"), (344, b"ni1\0"), (4, b"n+2\0")), None, CONVERT)
FORMATS = (
    Format("PNG", ((0, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),), _with_pillow(PngImageFile)),
    Format("JPEG", ((0, b"\xff\xd8\xff"),), _with_pillow(JpegImageFile)),  # of several pictures, the first
    Format("TIFF", tuple((0, mark) for mark in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")), _with_pillow(TiffImageFile)),
    NIFTI,
    Format("GIF, which is not read", ((0, b"GIF8"),), None, CONVERT),
    Format("WebP, which is not read", ((8, b"WEBP"),), None, CONVERT),
    Format("JPEG 2000, which is not read", ((0, b"\0\0\0\x0cjP"), (0, b"\xff\x4f\xff\x51")), None, CONVERT),
    Format("HDF5 data, not an image", ((0, b"\x89HDF"),)),
    Format("a NumPy array, not an image", ((0, b"\x93NUMPY"),)),
    Format("a PDF document, not an image", ((0, b"%PDF"),)),
    Format("a ZIP archive, not an image", ((0, b"PK\x03\x04"),), None, "unpack it"),
    Format("BMP", ((0, b"BM"),), _with_pillow(BmpImageFile)),  # last, for two letters prove little
)


def _recognise(content: bytes) -> Format:
    start = content[:4096]
    if start.startswith(b"\x1f\x8b"):
        try:
            inside = zlib.decompressobj(wbits=31).decompress(start, 512)
        except zlib.error:
            inside = b""
        return NIFTI if NIFTI.matches(inside) else Format("a gzip archive, not an image", (), None, "unpack it")
    if dicom.is_dicom(start):
        return DICOM
    for form in FORMATS:
        if form.matches(start):
            return form
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start).lower()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return Format("not an image, nor anything else that is known")
    markup = re.match(r"\s*<[?!]?(?:doctype )?(html|xml|svg)", text)
    return Format(f"{markup[1].upper() if markup else 'text'}, not an image")
