"""Facts of a received data set by which it is filed and routed, read from its first elements alone.

Nothing in it is believed: a UID is a UID or the object is refused, and no value becomes a path or stands in an error.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    RE_VALID_UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
)

from aeflow.imageio.dicom import values
from aeflow.imageio.dicom.values import UnreadableError
from aeflow.results.dicom.identifiers import NAME

LAST = 0x0020000E  # Series Instance UID: all that is asked for stands before or at it
BEGINNING = 2**20  # bytes of deflated content that are unfolded to find it
META_TAG, META_LENGTH = b"\2\0\0\0", slice(140, 144)  # the first element of a file: how long its group is (PS3.10, 7.1)
UID = re.compile(RE_VALID_UID)
MAX_UID = 64
OURS = (SecondaryCaptureImageStorage, ParametricMapStorage)  # classes that our own results have
OUT_OF_RESOURCES = 0xA700  # answer of C-STORE (PS3.4 table B.2-1)


class ObjectError(Exception):
    """Error of an object that is not taken; ``status`` is C-STORE's (PS3.4 table B.2-1)."""

    def __init__(self, found: str, status: int = 0xC000) -> None:
        super().__init__(found)
        self.found, self.status = found, status


class FullError(ObjectError):
    """Error of a disk that has no room now."""

    def __init__(self) -> None:
        super().__init__("the disk is full", OUT_OF_RESOURCES)


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """Facts of one object."""

    study: str
    series: str
    instance: str
    sop_class: str
    modality: str = ""
    body_part: str = ""
    own: bool = False  # made by aeflow


def facts_of(data: bytes, syntax: str, sop_class: str, instance: str) -> ObjectFacts:
    """Return the facts of an encoded data set; ObjectError if it has no valid UIDs, or others than its command says."""
    header = _beginning(data, syntax)
    found = ObjectFacts(
        study=_uid(header, "StudyInstanceUID"),
        series=_uid(header, "SeriesInstanceUID"),
        instance=_uid(header, "SOPInstanceUID"),
        sop_class=_uid(header, "SOPClassUID"),
        modality=_word(header, "Modality"),
        body_part=_word(header, "BodyPartExamined"),
        own=sop_class in OURS and _word(header, "Manufacturer") == NAME.upper(),
    )
    if (found.sop_class, found.instance) != (sop_class, instance):
        raise ObjectError("its data set names another SOP class or instance than its command", 0xA900)
    return found


def parts_of_file(content: bytes) -> tuple[str, tuple[str, str], bytes]:
    """Return transfer syntax, SOP class and instance, and data set of a DICOM file; ObjectError if it is none."""
    try:
        length = int.from_bytes(content[META_LENGTH], "little")
        end = META_LENGTH.stop + length
        if content[128:132] != b"DICM" or content[132:136] != META_TAG or end > len(content):
            raise ObjectError("no DICOM file")
        meta = read_dataset(BytesIO(content[132:end]), is_implicit_VR=False, is_little_endian=True)
        named = str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID)
        return str(meta.TransferSyntaxUID), named, content[end:]
    except ObjectError:
        raise
    except Exception as error:  # pydicom raises many kinds
        raise ObjectError(f"its header cannot be read ({type(error).__name__})") from None


def _beginning(data: bytes, syntax: str) -> Dataset:
    """Return the first elements, up to ``LAST``."""

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        return int(tag) > LAST

    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            data = zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(data, BEGINNING)
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        return read_dataset(BytesIO(data), implicit, little, stop_when=stop)
    except Exception as error:  # pydicom raises many kinds, RecursionError among them, whose texts quote values
        raise ObjectError(f"its header cannot be read ({type(error).__name__})") from None


def _uid(header: Dataset, keyword: str) -> str:
    try:
        found = values.text(header, keyword) or ""
    except UnreadableError:
        found = ""
    if len(found) > MAX_UID or not UID.fullmatch(found):
        raise ObjectError(f"no valid {keyword}")
    return found


def _word(header: Dataset, keyword: str) -> str:
    """Return a word in capital letters, empty if there is none that can be read: it then fits no rule."""
    try:
        return (values.text(header, keyword) or "").upper()[:64]
    except UnreadableError:
        return ""
