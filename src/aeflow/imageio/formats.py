"""File formats: the bytes that each begins with, and its reader.

A new format is one reader and one line in FORMATS.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aeflow._types import Axis
from aeflow.imageio import dicom, nifti, raster
from aeflow.imageio.content import start_of
from aeflow.imageio.errors import FileError, ImageError
from aeflow.imageio.image import Header, RawImage, Slice
from aeflow.imageio.limits import Limits
from aeflow.imageio.raster import CONVERT

# Names that image files end in, for those that cannot be told by their content any more.
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".dcm", ".dicom", ".ima", ".nii", ".gz")
)
LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})  # that systems leave in folders of images
SNIFFED = 4096  # bytes from which the format is recognised

# (content, name for errors, limits, position of the image in the file) -> samples
Reader = Callable[[bytes, Path, Limits, Slice | None], RawImage]


@dataclass(frozen=True, slots=True)
class Format:
    """Format of a file, recognised by bytes at an offset; ``read`` is None if it is recognised only to be refused."""

    name: str
    marks: tuple[tuple[int, bytes], ...] = ()
    read: Reader | None = None
    remedy: str = "name an image file"
    header: Callable[[bytes, Path, Limits, Axis], Header] | None = None
    known: Callable[[bytes], bool] | None = None  # if bytes at an offset do not suffice
    other: bool = False  # nothing that anybody takes for an image

    def matches(self, content: bytes) -> bool:
        """Return if a file's content begins as this format does."""
        if self.known is not None:
            return self.known(content)
        return any(content.startswith(mark, offset) for offset, mark in self.marks)

    def samples(self, content: bytes, where: Path, limits: Limits, at: Slice | None) -> RawImage:
        """Return one image of a file; ImageError if the format is recognised only to be refused."""
        if self.read is None:
            raise ImageError(where, self.name, self.remedy)
        return self.read(content, where, limits, at)


def _raster(name: str, plugin: raster.Plugin, *marks: bytes) -> Format:
    """Return a format that Pillow reads with ``plugin``, recognised by its first bytes."""

    def read(content: bytes, where: Path, limits: Limits, at: Slice | None) -> RawImage:
        return raster.read(plugin, content, where, limits)

    return Format(name, tuple((0, mark) for mark in marks), read)


def _read_dicom(content: bytes, where: Path, limits: Limits, at: Slice | None) -> RawImage:
    return dicom.read(content, where, limits, 0 if at is None else at.index)


def _dicom_header(content: bytes, where: Path, limits: Limits, axis: Axis) -> Header:
    return dicom.header(content, where, limits)


def _read_nifti(content: bytes, where: Path, limits: Limits, at: Slice | None) -> RawImage:
    axis = (at.axis if at is not None else None) or "axial"
    index = nifti.header(content, where, limits, axis).frames // 2 if at is None else at.index
    return nifti.read(content, where, limits, index, axis)


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Microsoft's older formats, and newer ones with a password
OFFICE_MEMBERS = (b"[Content_Types].xml", b"mimetype", b"_rels/", b"docProps/", b"word/", b"xl/", b"ppt/", b"META-INF/")


def _is_office(content: bytes) -> bool:
    """Return if this is of Microsoft's or of OpenDocument's formats: by the first member of a ZIP archive, or older."""
    return content.startswith(OLE) or (content.startswith(b"PK\x03\x04") and content.startswith(OFFICE_MEMBERS, 30))


DICOM = Format("DICOM", read=_read_dicom, header=_dicom_header, known=dicom.is_dicom)
NIFTI = Format("NIfTI", read=_read_nifti, header=nifti.header, known=nifti.is_nifti)

FORMATS = (
    DICOM,  # first, because its preamble may be a TIFF's
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
    Format("a PDF document, not an image", ((0, b"%PDF"),), other=True),
    Format("an office document, not an image", known=_is_office, other=True),
    Format("a ZIP archive, not an image", ((0, b"PK\x03\x04"),), None, "unpack it"),
    _raster("BMP", raster.BMP, b"BM"),  # last, because two letters prove little
)


def is_no_image(path: Path) -> bool:
    """Return if a file is plainly something else that lies beside images: by its name, or a text or document.

    A name that ends as images' do is one's claim to be an image, whatever is in it; so a damaged image is never passed
    over.
    """
    if path.name.lower() in LITTER:
        return True
    if path.suffix.lower() in SUFFIXES:
        return False
    try:
        start = start_of(path, SNIFFED)
    except FileError:  # the reader will say why
        return False
    return bool(start) and recognise(start).other


def recognise(content: bytes) -> Format:
    """Return the format of a file's content; a format that refuses it if it is none that is read."""
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
    return Format(f"{markup[1].upper() if markup else 'text'}, not an image", other=True)
