"""DICOM images to write results for: one for each kind of source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

PATIENT = {
    "PatientName": "Canary^Sören",
    "PatientID": "CANARY-4711",
    "PatientBirthDate": "19580304",
    "PatientSex": "F",
    "PatientAge": "067Y",
    "StudyDate": "20240203",
    "StudyTime": "101112",
    "StudyID": "17",
    "AccessionNumber": "A-17",
    "StudyDescription": "Thorax p.a.",
    "ReferringPhysicianName": "Canary^Doctor",
}
CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "enhanced MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "US": "1.2.840.10008.5.1.4.1.1.3.1",
}
AXIAL = [1, 0, 0, 0, 1, 0]


def texture(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Return pixels in [0, 1] of any shape, coarse enough to be seen."""
    rng = np.random.default_rng(seed)
    coarse = rng.random([*shape[:-2], 8, 8], dtype=np.float32)
    return coarse.repeat(-(-shape[-2] // 8), -2).repeat(-(-shape[-1] // 8), -1)[..., : shape[-2], : shape[-1]]


def write(path: Path, kind: str, pixels: NDArray[np.integer], **attributes: object) -> Path:
    """Write a DICOM file of a kind of source with integer pixels (rows, columns) or (frames, rows, columns)."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID = UID(CLASSES[kind])
    data.Modality = kind.split()[-1]
    for number, keyword in enumerate(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), 1):
        setattr(data, keyword, f"1.2.826.0.1.3680043.8.498.{number}.{sum(map(ord, kind))}")
    data.SeriesNumber, data.InstanceNumber = 3, 5
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    for keyword, value in {**PATIENT, **attributes}.items():
        setattr(data, keyword, value)
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def cr(path: Path) -> Path:
    """Write MONOCHROME1 in 12 of 16 bits, with neither frame of reference nor orientation."""
    stored = (4095 * texture(90, 70)).astype(np.uint16)
    return write(path, "CR", stored, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)


def dx(path: Path) -> Path:
    """Write 16 bits with the spacing at the detector, an orientation and a side."""
    return write(
        path,
        "DX",
        (65535 * texture(600, 520)).astype(np.uint16),
        ImagerPixelSpacing=[0.139, 0.139],
        PatientOrientation=["L", "F"],
        Laterality="R",
        BurnedInAnnotation="NO",
        LossyImageCompression="01",
        LossyImageCompressionRatio=12.5,
        LossyImageCompressionMethod="ISO_10918_1",
    )


def ct(path: Path) -> Path:
    """Write signed 16 bits, oblique, in a frame of reference."""
    return write(
        path,
        "CT",
        (2000 * texture(64, 96) - 1000).astype(np.int16),
        FrameOfReferenceUID="1.2.826.0.1.3680043.8.498.77",
        PositionReferenceIndicator="SN",
        ImagePositionPatient=["-12.5", "3.25", "-100.125"],
        ImageOrientationPatient=["0.6", "0.8", "0", "0", "0", "1"],
        PixelSpacing=["0.7", "0.35"],
        SliceThickness="2.5",
        RescaleSlope=1,
        RescaleIntercept=-24,
    )


def mr(path: Path) -> Path:
    """Write unsigned 16 bits in a frame of reference, with no SliceThickness."""
    return write(
        path,
        "MR",
        (1200 * texture(50, 50)).astype(np.uint16),
        FrameOfReferenceUID="1.2.826.0.1.3680043.8.498.78",
        ImagePositionPatient=[1, 2, 3],
        ImageOrientationPatient=AXIAL,
        PixelSpacing=[0.9, 0.9],
    )


def us(path: Path) -> Path:
    """Write 8 bits, five frames in time that lie nowhere."""
    return write(path, "US", (255 * texture(5, 40, 60)).astype(np.uint8), FrameTime=40)


def enhanced_mr(path: Path) -> Path:
    """Write 16 bits, four slices, top first, with functional groups."""
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [Dataset()], [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = ["0.5", "0.5"]
    shared.PixelMeasuresSequence[0].SliceThickness = "4"
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = AXIAL
    for number in range(4):
        item = Dataset()
        item.PlanePositionSequence = [Dataset()]
        item.PlanePositionSequence[0].ImagePositionPatient = [0, 0, -4 * number]
        frames.append(item)
    return write(
        path,
        "enhanced MR",
        (4000 * texture(4, 48, 48)).astype(np.uint16),
        FrameOfReferenceUID="1.2.826.0.1.3680043.8.498.79",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )


MADE = {"CR": cr, "DX": dx, "CT": ct, "MR": mr, "US": us, "enhanced MR": enhanced_mr}
