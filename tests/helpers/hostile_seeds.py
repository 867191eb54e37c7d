"""A small good file of each kind that is read, and the parts that hostile ones are made of."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from helpers.image_files import chunk, noise, png, tiff
from helpers.nifti_files import nifti

CANARY = b"CANARY^PATIENT"
SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg": JPEGBaseline8Bit,
}


@dataclass(frozen=True)
class Seed:
    """A good file; ``inner`` is what damage is done to, ``wrap`` packs it as its container does, sums and all."""

    name: str
    inner: bytes
    wrap: Callable[[bytes], bytes] = bytes

    @property
    def content(self) -> bytes:
        return self.wrap(self.inner)


def seeds() -> list[Seed]:
    """Return a small good file of each kind that is read."""
    text = chunk(b"tEXt", b"Comment\0" + CANARY)
    exif = PIL.Image.Exif()
    exif[0x010E] = CANARY.decode()
    grey, deep, colour = noise("u1"), noise("u2"), noise("u1", 3)
    volume = np.random.default_rng(0).integers(0, 900, (33, 34, 6)).astype("i2")
    volume8 = (volume % 200).astype("u1")
    named = {"descrip": CANARY}
    dicoms = {name: dicom(syntax) for name, syntax in SYNTAXES.items()}
    meta = meta_length(dicoms["deflated"])
    return [
        Seed("png", png(grey, 0, extra=text)),
        Seed("png16", png(deep, 0, extra=text)),
        Seed(
            "png-header", png(deep, 0, extra=text)[16:29], lambda header: packed_png(header, scanlines(deep.byteswap()))
        ),
        Seed(
            "png-pixels", scanlines(grey), lambda rows: packed_png(struct.pack(">IIBBBBB", 48, 40, 8, 0, 0, 0, 0), rows)
        ),
        Seed("png-palette", pillow(colour, "P", "PNG")),
        Seed("jpeg", pillow(grey, "L", "JPEG", exif=exif)),
        Seed("jpeg-progressive", pillow(colour, "RGB", "JPEG", progressive=True, exif=exif)),
        Seed("tiff", tiff(deep)),
        Seed("tiff-zip", tiff(colour, photometric=2, big_endian=True, compressed=True)),
        Seed("tiff-lzw", pillow(grey, "L", "TIFF", compression="tiff_lzw")),
        Seed("bmp", pillow(colour, "RGB", "BMP")),
        Seed("bmp-palette", pillow(colour, "P", "BMP")),
        Seed("nii", nifti(volume8, **named)),
        Seed("nii2", nifti(volume8, version=2, big_endian=True, **named)),
        Seed("nii.gz", nifti(volume8, zipped=True, **named)),
        Seed("nii.gz-inside", nifti(volume8.astype("f4"), **named), lambda inner: gzip.compress(inner, 1)),
        *(Seed(f"dicom-{name}", content) for name, content in dicoms.items()),
        Seed(
            "dicom-deflated-inside",
            zlib.decompress(dicoms["deflated"][meta:], wbits=-15),
            lambda inner: dicoms["deflated"][:meta] + deflate(inner),
        ),
    ]


# Parts of files.


def pillow(pixels: np.ndarray, mode: str, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def packed_png(header: bytes, rows: bytes, packed: bool = False) -> bytes:
    data = rows if packed else zlib.compress(rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def scanlines(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def zeros(n: int) -> bytes:
    """Return ``n`` zero bytes, compressed by zlib, made without holding them."""
    return packed(zlib.compressobj(1), b"", n)


def gzipped(head: bytes, then: int) -> bytes:
    return packed(zlib.compressobj(1, wbits=31), head, then)


def deflate(inner: bytes, then: int = 0) -> bytes:
    return packed(zlib.compressobj(1, wbits=-15), inner, then)


def packed(packer: zlib._Compress, head: bytes, then: int) -> bytes:
    parts, block = [packer.compress(head)], bytes(2**20)
    parts += [packer.compress(block[: min(len(block), then - done)]) for done in range(0, then, len(block))]
    return b"".join([*parts, packer.flush()])


def dicom(syntax: str, **elements: object) -> bytes:
    """Return a secondary capture, 40 x 48, 8 bits; ``elements`` replace what it says of itself."""
    pixels = noise("u1")
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax if syntax != RLELossless else ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3.4"
    file.file_meta.ImplementationClassUID = "1.2.3"
    file.PatientName, file.PatientID, file.Modality = CANARY.decode(), CANARY.decode(), "OT"
    file.StudyInstanceUID, file.SeriesInstanceUID = "1.2.3.5", "1.2.3.6"
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    file.RescaleSlope, file.RescaleIntercept, file.WindowCenter, file.WindowWidth = "1", "0", "128", "256"
    if syntax == JPEGBaseline8Bit:
        file.PixelData = encapsulate([pillow(pixels, "L", "JPEG")])
        file["PixelData"].is_undefined_length = True
    else:
        file.PixelData = pixels.tobytes()
    file["PixelData"].VR = "OB"
    if syntax == RLELossless:
        file.compress(RLELossless, generate_instance_uid=False)
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in elements.items():
            setattr(file, name, value)
        stream = io.BytesIO()
        file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def meta_length(content: bytes) -> int:
    """Return where the data set begins, after preamble and file meta information."""
    return 144 + int.from_bytes(content[140:144], "little")


def element(tag: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)
