"""DICOM image that results refer to: the parts of its header that they carry, and references to it.

highdicom never sees the patient, because its warnings quote a name that breaks a rule: its constructors get a stand-in
of the source, and ``ReferencedImage.file`` then files the result under the source's patient and study.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from highdicom.base import SOPClass
from pydicom import config
from pydicom import uid as uids
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from aeflow.imageio.errors import ImageError

KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
PATIENT_KEYS = ("PatientName", "PatientID")
MAY_BE_EMPTY = (*PATIENT_KEYS, "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime")
REMOVED_BY = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
TERMS = {"PatientSex": ("M", "F", "O"), "Laterality": ("L", "R")}
# Classes of one frame by definition: some files hold more all the same, but to name one is forbidden.
ONE_FRAME = (
    uids.ComputedRadiographyImageStorage,
    uids.CTImageStorage,
    uids.MRImageStorage,
    uids.SecondaryCaptureImageStorage,
    uids.UltrasoundImageStorage,
)
FRAMES = 0x5200  # the group of elements about single frames
REMEDY_EXPORT_FROM_ARCHIVE = "export it from the archive again"

# pydicom's warnings quote the value; here every value is checked before it is used.
config.settings.reading_validation_mode = config.IGNORE


class ReferencedImage:
    """Header of a DICOM image file, as ``imageio`` read it; raises ImageError if no result can refer to it."""

    def __init__(self, path: Path, header: Dataset | ImageError, content: str = "") -> None:
        """Take a header; ``content`` is a digest of the file, if results on other pixels are to have other UIDs."""
        if isinstance(header, ImageError):
            raise header
        self.path, self.header, self.content = path, header, content
        for keyword in KEYS:
            if self.valid(keyword) is None:
                raise ImageError(
                    path, f"no valid {keyword}, so no DICOM result can refer to it", REMEDY_EXPORT_FROM_ARCHIVE
                )
        for keyword in PATIENT_KEYS:
            if keyword in self.header and not _valid(self.header[keyword]):
                raise ImageError(
                    path,
                    f"its {keyword} breaks the rules of DICOM, so no result can carry it",
                    REMEDY_EXPORT_FROM_ARCHIVE,
                )
        if not (self.number("Rows") and self.number("Columns")):
            raise ImageError(path, "its header says no Rows or no Columns", REMEDY_EXPORT_FROM_ARCHIVE)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image as stored."""
        return int(self.header.Rows), int(self.header.Columns)

    @property
    def several(self) -> bool:
        """True if the file holds several frames."""
        return (self.number("NumberOfFrames") or 1) > 1

    def number(self, keyword: str) -> int | None:
        """Return a positive integer of the header; None if it has none."""
        value = self.valid(keyword)
        return int(value) if isinstance(value, int) and 0 < value < 2**31 else None

    def valid(self, keyword: str, dataset: Dataset | None = None) -> Any:
        """Return a value of the header or of one of its items; None if it is absent, empty or invalid."""
        dataset = self.header if dataset is None else dataset
        if keyword not in dataset or dataset[keyword].is_empty or not _valid(dataset[keyword]):
            return None
        return dataset[keyword].value

    def stand_in(self) -> Dataset:
        """Build a stand-in of the source for highdicom, without its patient.

        Its class is one that highdicom knows, since real files have others, and its geometry is one that it accepts,
        since projection images have none; what highdicom writes of both is replaced by the true values.
        """
        dataset = Dataset()
        for keyword in MAY_BE_EMPTY:
            setattr(dataset, keyword, None)
        for keyword in KEYS:
            setattr(dataset, keyword, self.header[keyword].value)
        dataset.SOPClassUID = uids.SecondaryCaptureImageStorage
        dataset.Rows, dataset.Columns = self.shape
        dataset.FrameOfReferenceUID = self.header.SOPInstanceUID
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [1, 1], None
        return dataset

    def reference(self, frames: Sequence[int | None] = ()) -> Dataset:
        """Return a reference to the source, or to the named ones of its frames."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.header.SOPClassUID
        item.ReferencedSOPInstanceUID = self.header.SOPInstanceUID
        numbers = [frame for frame in frames if frame is not None]
        if numbers and self.header.SOPClassUID not in ONE_FRAME:
            item.ReferencedFrameNumber = numbers
        return item

    def light(self) -> ReferencedImage:
        """Return the same image with no more of its header than a reference needs."""
        header = Dataset()
        for keyword in (*KEYS, "Rows", "Columns"):
            setattr(header, keyword, self.header[keyword].value)
        return ReferencedImage(self.path, header, self.content)

    @cached_property
    def _kept(self) -> Dataset:
        """Valid elements of the header without those of frames; patient and study are the same in every class."""
        kept = Dataset()
        for element in self.header:
            if element.keyword and element.tag.group != FRAMES and not element.is_empty and _valid(element):
                kept.add(copy.deepcopy(element))  # otherwise a change here would change the header
        kept.SOPClassUID = uids.SecondaryCaptureImageStorage
        return kept

    def file(self, result: SOPClass) -> None:
        """Give a result the source's patient and study, in UTF-8; what breaks the rules of DICOM is left out."""
        result.copy_patient_and_study_information(self._kept)
        if result.get("PatientIdentityRemoved") == "YES" and not any(keyword in result for keyword in REMOVED_BY):
            result.DeidentificationMethod = "not stated in the source"  # must not be absent
        result.SpecificCharacterSet = "ISO_IR 192"

    def file_image(self, result: SOPClass, frames: Sequence[int | None]) -> None:
        """Do the same for an image made of some frames: refer to them, and state laterality and lossy compression."""
        self.file(result)
        result.Laterality = self.valid("Laterality")
        result.LossyImageCompression = "01" if self.valid("LossyImageCompression") == "01" else "00"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if result.LossyImageCompression == "01" and (value := self.valid(keyword)) is not None:
                setattr(result, keyword, value)
        result.SourceImageSequence = [self.reference(frames)]
        series = Dataset()
        series.SeriesInstanceUID = self.header.SeriesInstanceUID
        series.ReferencedInstanceSequence = [self.reference()]
        result.ReferencedSeriesSequence = [series]


def _valid(element: DataElement) -> bool:
    """Return if a value, or everything in a sequence, keeps the rules of its value representation."""
    if element.VR == "SQ":
        return all(_valid(inner) for item in element.value for inner in item)
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            # pydicom keeps the text of numbers and names, and checks text alone
            validate_value(element.VR, str(value) if element.VR in ("DS", "IS", "PN") else value, config.RAISE)
    except (ValueError, TypeError):
        return False
    return element.is_empty or element.keyword not in TERMS or element.value in TERMS[element.keyword]
