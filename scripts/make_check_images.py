"""Build the tiny images that ``aeflow info --check`` decodes, one for each library that decodes.

python scripts/make_check_images.py
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import gdcm
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, SecondaryCaptureImageStorage

from aeflow.deploy.self_check import FILE, VALUES
from aeflow.runtime.files import write_bytes
from aeflow.runtime.one_file import packed

UID = "1.2.826.0.1.3680043.8.498.1"  # of no real image


def plain() -> Dataset:
    """Return the image, not compressed."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, UID
    data.Modality, data.PatientID = "OT", "none"
    data.Rows, data.Columns = VALUES.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = VALUES.tobytes()
    data["PixelData"].VR = "OB"
    return data


def content(data: Dataset) -> bytes:
    """Return the bytes of a DICOM file."""
    stream = io.BytesIO()
    dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def compressed(syntax: str) -> bytes:
    """Return the image as pydicom compresses it."""
    data = plain()
    data.compress(syntax, generate_instance_uid=False)
    return content(data)


def lossless_jpeg() -> bytes:
    """Return the image as GDCM compresses it, which alone writes lossless JPEG."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.dcm", Path(folder) / "after.dcm"
        before.write_bytes(content(plain()))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(before))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return content(dcmread(after))


def png() -> bytes:
    """Return the image as PNG."""
    stream = io.BytesIO()
    Image.fromarray(VALUES).save(stream, "PNG")
    return stream.getvalue()


if __name__ == "__main__":
    files = {
        "image.png": png(),
        "jpeg-lossless.dcm": lossless_jpeg(),
        "jpeg-ls.dcm": compressed(JPEGLSLossless),
        "jpeg-2000.dcm": compressed(JPEG2000Lossless),
    }
    write_bytes(FILE, packed(files))
