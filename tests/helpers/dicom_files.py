"""DICOM files made in the test, so that it knows what every pixel is."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from aeflow.imageio.dicom.reader import read
from aeflow.imageio.limits import Limits

WHERE = Path("folder/scan.dcm")
SIZE = (40, 48)
# A high-throughput stream, written by OpenJPH, of the sums of row and column times 700.
HIGH_THROUGHPUT = zlib.decompress(
    base64.b85decode(
        "c-s5#|38pH(}4j941idJ0Rd3?jQos@{{t8}7?^+@uKz&{JU|vB11k%Q1LOY~24RJc2}q!$qvL-HgE#}De?e-VSAd5?SZa}ifu50>"
        "p0VEl2@G6d6BQX4|4%-^pzW}p<$pljq(4{wF&#ExIKUtbL=E=;J~DNeFv!>cVQ2ygiWV@i2K+Isf70K=|Af1YLALzO4+epT@-UFx"
        "2L{$9pEUYG=*OK$R>e)_44)$8PA6CD^gsRh#o}IZ<Gvk0bz*xM7)uy@Qj~;eo^Vk!n%L=+^62xgs;a7Drb-5%Gf*L@?8pB;YzA_F"
        "XB?>hmdyBOKTx~gA_m5Chq9Zg(_^s_f9p?GK|xVdJww^n(|Wt#Y{EhO`(IlivY`4~P~-cXUhMl*HRS$I0dwE%X8eB>0Og{fSO"
    )
)


def values(bits: int, signed: bool = False, *channels: int, seed: int = 0) -> NDArray[Any]:
    """Return noise over the full range of so many bits, both ends included; (40, 48, *channels)."""
    low = -(1 << (bits - 1)) if signed else 0
    noise = np.random.default_rng(seed).integers(low, low + (1 << bits), (*SIZE, *channels))
    noise.flat[:2] = low, low + (1 << bits) - 1
    container = next(size for size in (8, 16, 32) if size >= bits)
    return noise.astype(f"{'i' if signed else 'u'}{container // 8}")


def dataset(pixels: NDArray[Any], bits: int | None = None, frames: int = 0, **elements: Any) -> Dataset:
    """Return native pixels, (H, W), (H, W, 3) or either behind an axis of frames, with any further elements."""
    shape = pixels.shape[1:] if frames else pixels.shape
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = generate_uid(entropy_srcs=["aeflow"])
    data.PatientName, data.PatientID = "Canary^Name", "canary-id"
    data.Modality = "DX"
    data.Rows, data.Columns = shape[:2]
    data.SamplesPerPixel = 3 if len(shape) == 3 else 1
    data.PhotometricInterpretation = "RGB" if len(shape) == 3 else "MONOCHROME2"
    if len(shape) == 3:
        data.PlanarConfiguration = 0
    if frames:
        data.NumberOfFrames = frames
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    if pixels.dtype.kind == "f":
        keyword = "FloatPixelData" if pixels.dtype.itemsize == 4 else "DoubleFloatPixelData"
        setattr(data, keyword, pixels.tobytes())
    else:
        data.BitsStored = bits or 8 * pixels.dtype.itemsize
        data.HighBit = data.BitsStored - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        content = pixels.tobytes()
        data.PixelData = content + b"\0" * (len(content) % 2)
        data["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


def content(data: Dataset, syntax: str | None = None) -> bytes:
    """Return the bytes of a Part 10 file; ``syntax`` for another native one."""
    if syntax:
        data.file_meta.TransferSyntaxUID = syntax
    if syntax == "1.2.840.10008.1.2.2":
        for keyword in ("PixelData", "FloatPixelData"):
            if keyword in data and data.BitsAllocated > 8:
                words = np.frombuffer(data[keyword].value, f"u{data.BitsAllocated // 8}")
                data[keyword].value = words.byteswap().tobytes()
    stream = io.BytesIO()
    dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def compressed(data: Dataset, syntax: str, **options: Any) -> bytes:
    data.compress(syntax, generate_instance_uid=False, **options)
    return content(data)


def by_gdcm(data: Dataset, syntax: int, folder: Path) -> bytes:
    """Return the same image with its pixels compressed by GDCM, which alone writes lossless and 12-bit JPEG."""
    plain, file = folder / "plain.dcm", folder / "compressed.dcm"
    plain.write_bytes(content(data))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    image = reader.GetImage()
    if twelve := syntax == gdcm.TransferSyntax.JPEGExtendedProcess2_4:  # else it writes 16 bits, which no JPEG has
        image.SetPixelFormat(gdcm.PixelFormat(1, 12, 12, 11, 0))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(image)
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(file))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    result = dcmread(file)
    if twelve:
        result.BitsAllocated = 16
    return content(result)


def items(**elements: Any) -> Sequence:
    """Return a sequence of one item."""
    data = Dataset()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return Sequence([data])


def lookup(first: int, entries: list[int], bits: int, **more: Any) -> Sequence:
    """Return a table of words, in a sequence."""
    table = items(LUTDescriptor=[len(entries) % 65536, first, bits], LUTData=entries, **more)
    table[0]["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    table[0]["LUTData"].VR = "US"
    return table


def shown(data: Dataset | bytes, frame: int = 0) -> NDArray[np.float32]:
    return read(data if isinstance(data, bytes) else content(data), WHERE, Limits(), frame).samples


def parsed(content: bytes) -> Dataset:
    return dcmread(io.BytesIO(content))


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return one element in Explicit VR Little Endian, as long as said."""
    length = len(value) if length is None else length
    size = struct.pack("<HL", 0, length) if vr in (b"SQ", b"OB", b"OW", b"UN") else struct.pack("<H", length)
    return struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr) + size + value
