"""One image file -> pixels in [0, 1]; the reader is chosen by the file's content, never by its name.

Range: integers are divided by the full range of their type (8 bits / 255, 12 / 4095, 16 / 65535; signed ones are
shifted to start at 0), so 12-bit data stored in 16 bits stays dark. Floats within [0, 1] stay as they are, other
finite floats are stretched from their minimum to their maximum. Colour with R = G = B everywhere becomes grey,
transparency shows black, EXIF rotation is applied, colour profiles and print resolution are ignored.

A file that cannot be read without losing what it holds is refused with an ImageError; nothing is guessed.
"""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aeflow.data import dicom, nifti, raster
from aeflow.data.image import Axis, Header, Image, Raw, Slice
from aeflow.data.limits import LIMITS, Limits
from aeflow.data.raster import CONVERT
from aeflow.errors import EmptyImageError, ImageError, ImageLimitError

MIN_SIDE = 32  # pixels; an encoder of stride 32 sees nothing in less
Kind = Literal["directory", "headed", "plain"]

SNIFFED = 4096  # bytes that tell the format
DICOMDIR = re.compile(rb"1\.2\.840\.10008\.1\.3\.10(?![.\d])")  # its SOP class


def read_image(path: Path | str, limits: Limits = LIMITS, at: Slice | None = None) -> Image:
    """Pixels in [0, 1] of one image file, or of one slice of it; ImageError where it cannot be read.

    EmptyImageError where every pixel is the same.
    """
    path = Path(path)
    raw = _read(path, limits, at)
    samples = raw.samples
    if min(samples.shape[:2]) < MIN_SIDE:
        found = f"{samples.shape[1]} x {samples.shape[0]} pixels, nothing to look at"
        raise ImageError(path, found, f"give an image of at least {MIN_SIDE} x {MIN_SIDE} pixels")
    if samples.ndim == 3 and (samples == samples[..., :1]).all():
        samples = samples[..., 0]
    if (samples == samples[0, 0]).all():
        raise EmptyImageError(path, "every pixel has the same value", "export the image again")
    return Image(_unit(samples), raw.spacing, raw.patient, str(path), raw.modality, raw.photometric)


def read_mask(path: Path | str, limits: Limits = LIMITS, at: Slice | None = None) -> NDArray[np.bool_]:
    """Mask (H, W) of one file, or of one slice of it, true where any channel is not zero; ImageError as read_image."""
    path = Path(path)
    content = read_content(path, limits)
    form = recognise(content)
    if form.name == "NIfTI":
        at = at or Slice(0, "axial")
        return nifti.read_labels(content, path, limits, at.index, at.axis or "axial")
    if form.name == "DICOM":
        raise ImageError(path, "a mask saved as DICOM, whose zero depends on its window", "save the mask as PNG")
    if form.name == "JPEG":
        raise ImageError(path, "a mask saved as JPEG, which blurs its border", "save the mask as PNG")
    return not_zero(form.samples(content, path, limits, at).samples)


def not_zero(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """(H, W), true where any channel of (H, W) or (H, W, 3) samples is not zero."""
    return np.asarray(np.atleast_3d(samples).any(axis=-1))


def read_header(path: Path | str, axis: Axis, limits: Limits = LIMITS) -> Header:
    """What a file says about itself, volumes cut across ``axis``; ImageError where it cannot be read."""
    path = Path(path)
    content = read_content(path, limits)
    form = recognise(content)
    return form.header(content, path, limits, axis) if form.header is not None else Header(form.name)


def read_directory(path: Path | str, limits: Limits = LIMITS) -> list[Path]:
    """The files that a DICOMDIR lists; ImageError as read_header."""
    path = Path(path)
    return dicom.directory(read_content(path, limits), path, limits)


def kind_of(path: Path) -> Kind:
    """By a file's first bytes: a DICOMDIR, a format with a header to read first, or none of both."""
    try:
        with path.open("rb") as file:
            start = file.read(SNIFFED)
    except (OSError, ValueError):  # said when it is read
        return "plain"
    if dicom.is_dicom(start) and DICOMDIR.search(start):
        return "directory"
    return "headed" if any(form.matches(start) for form in (DICOM, NIFTI)) else "plain"


def read_content(path: Path, limits: Limits) -> bytes:
    """All bytes of a regular file; ImageError where it cannot be opened, ImageLimitError where it is too long."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise ImageError(path, "a folder" if stat.S_ISDIR(status.st_mode) else "not a file", "name an image file")
        if status.st_size == 0:
            raise ImageError(path, "an empty file", "export the image again")
        if status.st_size > limits.max_bytes:
            found = f"{status.st_size} bytes where the limit is {limits.max_bytes}"
            raise ImageLimitError(path, found, "shrink the image or raise max_bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(path, f"cannot be opened ({reason})", "check the path and its permissions") from error


def _read(path: Path, limits: Limits, at: Slice | None) -> Raw:
    content = read_content(path, limits)
    raw = recognise(content).samples(content, path, limits, at)
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

Reader = Callable[[bytes, Path, Limits, Slice | None], Raw]  # content, where for errors, limits, which image of it


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of content, known by bytes at an offset; ``read`` is None where it is known only to be refused."""

    name: str
    marks: tuple[tuple[int, bytes], ...] = ()
    read: Reader | None = None
    remedy: str = "name an image file"
    header: Callable[[bytes, Path, Limits, Axis], Header] | None = None
    known: Callable[[bytes], bool] | None = None  # where bytes at an offset do not tell

    def matches(self, content: bytes) -> bool:
        if self.known is not None:
            return self.known(content)
        return any(content.startswith(mark, offset) for offset, mark in self.marks)

    def samples(self, content: bytes, where: Path, limits: Limits, at: Slice | None) -> Raw:
        """One image of a file; ImageError where the format is only known to be refused."""
        if self.read is None:
            raise ImageError(where, self.name, self.remedy)
        return self.read(content, where, limits, at)


def _raster(name: str, plugin: raster.Plugin, *marks: bytes) -> Format:
    def read(content: bytes, where: Path, limits: Limits, at: Slice | None) -> Raw:
        return raster.read(plugin, content, where, limits)

    return Format(name, tuple((0, mark) for mark in marks), read)


def _read_dicom(content: bytes, where: Path, limits: Limits, at: Slice | None) -> Raw:
    return dicom.read(content, where, limits, 0 if at is None else at.index)


def _dicom_header(content: bytes, where: Path, limits: Limits, axis: Axis) -> Header:
    return dicom.header(content, where, limits)


def _read_nifti(content: bytes, where: Path, limits: Limits, at: Slice | None) -> Raw:
    axis = (at.axis if at is not None else None) or "axial"
    index = nifti.header(content, where, limits, axis).frames // 2 if at is None else at.index
    return nifti.read(content, where, limits, index, axis)


DICOM = Format("DICOM", read=_read_dicom, header=_dicom_header, known=dicom.is_dicom)
NIFTI = Format("NIfTI", read=_read_nifti, header=nifti.header, known=nifti.is_nifti)
FORMATS = (
    DICOM,  # first, for its preamble may be a TIFF's
    _raster("PNG", raster.PNG, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    _raster("JPEG", raster.JPEG, b"\xff\xd8\xff"),
    _raster("TIFF", raster.TIFF, b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    NIFTI,
    Format("a gzip archive, not an image", ((0, b"\x1f\x8b"),), None, "unpack it"),
    Format("GIF, which is not read", ((0, b"GIF8"),), None, CONVERT),
    Format("WebP, which is not read", ((8, b"WEBP"),), None, CONVERT),
    Format("JPEG 2000, which is not read", ((0, b"\0\0\0\x0cjP"), (0, b"\xff\x4f\xff\x51")), None, CONVERT),
    Format("HDF5 data, not an image", ((0, b"\x89HDF"),)),
    Format("a NumPy array, not an image", ((0, b"\x93NUMPY"),)),
    Format("a PDF document, not an image", ((0, b"%PDF"),)),
    Format("a ZIP archive, not an image", ((0, b"PK\x03\x04"),), None, "unpack it"),
    _raster("BMP", raster.BMP, b"BM"),  # last, for two letters prove little
)


def recognise(content: bytes) -> Format:
    """The format that a file's content is in; one that refuses it where it is none that is read."""
    start = content[:SNIFFED]
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
