"""Reading of one image file as pixels in [0, 1]; the format is recognised by the file's content, never by its name.

Range: integers are divided by the full range of their type (8 bits / 255, 12 / 4095, 16 / 65535; signed ones are
shifted to start at 0), so 12-bit data stored in 16 bits stays dark. Floats within [0, 1] stay as they are, other
finite floats are stretched from their minimum to their maximum. Colour with R = G = B everywhere becomes grey,
transparency shows black, EXIF rotation is applied, colour profiles and print resolution are ignored.

A file that cannot be read without losing what it holds is refused with an ImageError; nothing is guessed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Axis
from aeflow.imageio import dicom, nifti
from aeflow.imageio.content import read_content, start_of
from aeflow.imageio.errors import EmptyImageError, FileError, ImageError
from aeflow.imageio.formats import FORMATS, SNIFFED, recognise
from aeflow.imageio.image import Header, Image, Plane, RawImage, Slice
from aeflow.imageio.limits import LIMITS, Limits

if TYPE_CHECKING:
    from pydicom import Dataset

MIN_SIDE = 32  # pixels; an encoder of stride 32 sees nothing in less
Kind = Literal["directory", "headed", "plain"]

DICOMDIR = re.compile(rb"1\.2\.840\.10008\.1\.3\.10(?![.\d])")  # its SOP class


def read_image(path: Path | str, limits: Limits = LIMITS, at: Slice | None = None) -> Image:
    """Read one image file, or one slice of it, as pixels in [0, 1]; ImageError if it cannot be read.

    EmptyImageError if every pixel is the same.
    """
    path = Path(path)
    return decode_image(read_content(path, limits), path, limits, at)


def decode_image(content: bytes, path: Path, limits: Limits = LIMITS, at: Slice | None = None) -> Image:
    """Decode the content of an image file, or one slice of it, as ``read_image`` does."""
    return finished(_decode(content, path, limits, at), path)


def finished(raw: RawImage, path: Path) -> Image:
    """Return what a reader gave as pixels in [0, 1]; ImageError if it is too small, EmptyImageError if it is empty."""
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
    """Read the mask (H, W) of one file, or of one slice of it, true where any channel is not zero.

    ImageError as read_image.
    """
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
    """Return (H, W), true where any channel of (H, W) or (H, W, 3) samples is not zero."""
    return np.asarray(np.atleast_3d(samples).any(axis=-1))


def read_header(path: Path | str, axis: Axis, limits: Limits = LIMITS) -> Header:
    """Read a file's header, its volume cut across ``axis``; ImageError if it cannot be read."""
    path = Path(path)
    return decode_header(read_content(path, limits), path, axis, limits)


def decode_header(content: bytes, path: Path, axis: Axis, limits: Limits = LIMITS) -> Header:
    """Decode the header in the content of a file, as ``read_header`` does."""
    form = recognise(content)
    return form.header(content, path, limits, axis) if form.header is not None else Header(form.name)


def read_planes(path: Path | str, limits: Limits = LIMITS) -> list[Plane | None]:
    """Read where each frame of a DICOM file lies; ImageError as read_header."""
    path = Path(path)
    return dicom.planes(read_content(path, limits), path, limits)


def read_directory(path: Path | str, limits: Limits = LIMITS) -> list[Path]:
    """Return the files that a DICOMDIR lists; ImageError as read_header."""
    path = Path(path)
    return dicom.directory(read_content(path, limits), path, limits)


def read_dataset(content: bytes, path: Path) -> Dataset | ImageError | None:
    """Read the DICOM header in the content of a file, without pixels, for results that refer to it.

    None if the content is not DICOM; the ImageError that names the remedy if its header cannot be read as a whole.
    """
    return dicom.dataset(content, path) if dicom.is_dicom(content[:SNIFFED]) else None


def kind_of(path: Path) -> Kind:
    """Return the kind of a file by its first bytes: a DICOMDIR, a format with a header to read first, or neither."""
    try:
        return kind_of_content(start_of(path, SNIFFED))
    except FileError:  # raised again when it is read
        return "plain"


def kind_of_content(content: bytes) -> Kind:
    """Return the kind of a file by its content, as ``kind_of`` does."""
    start = content[:SNIFFED]
    if dicom.is_dicom(start) and DICOMDIR.search(start):
        return "directory"
    return "headed" if any(form.matches(start) for form in FORMATS if form.header is not None) else "plain"


def _decode(content: bytes, path: Path, limits: Limits, at: Slice | None) -> RawImage:
    """Return the samples of one image as stored; ImageError if they cannot be read or are not all finite."""
    raw = recognise(content).samples(content, path, limits, at)
    if raw.samples.dtype.kind == "f" and not (finite := np.isfinite(raw.samples)).all():
        found = f"{finite.size - np.count_nonzero(finite)} values are NaN or infinite"
        raise ImageError(path, found, "give every pixel a finite value")
    return raw


def _unit(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return samples of any type as float32 in [0, 1]."""
    if samples.dtype.kind == "b":
        return samples.astype(np.float32)
    if samples.dtype.kind in "iu":
        low, high = np.iinfo(samples.dtype).min, np.iinfo(samples.dtype).max
        return (samples.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    if samples.min() < 0 or samples.max() > 1:
        wide = samples.astype(np.float64)  # the range of a float32 image may overflow float32
        samples = (wide - wide.min()) / (wide.max() - wide.min())
    return samples.astype(np.float32)
