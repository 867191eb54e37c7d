"""Parsing of DICOM bytes into a data set: encoding detected, inflated within bounds, nesting bounded.

No value of a header reaches an error, a warning or a log: pydicom's own messages quote values and are turned off here.
"""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import cast

from pydicom import Dataset, config
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import VR

from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.limits import Limits

REMEDY_EXPORT_IMAGE = "export it again"
PIXEL_TAGS = (0x7FE00010, 0x7FE00009, 0x7FE00008)  # integers, doubles, floats

# Permanent filters, because catch_warnings and pydicom's own context managers are not safe in threads.
config.settings.reading_validation_mode = config.IGNORE
warnings.filterwarnings("ignore", module=r"(pydicom|pylibjpeg|openjpeg|jpeg_ls)\b")
for _name in ("pydicom", "pylibjpeg", "openjpeg"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class ParsedDicom:
    """Data set of a file, and the facts needed to understand it."""

    data: Dataset
    where: Path  # for errors
    syntax: UID  # transfer syntax, guessed if the file names none
    little: bool  # byte order of words
    sop_class: str  # UID of the kind of object, empty if the file names none

    def refuse(self, found: str, remedy: str = REMEDY_EXPORT_IMAGE) -> ImageError:
        """Return the ImageError that refuses this file."""
        return ImageError(self.where, found, remedy)

    def numbers(self, item: Dataset, keyword: str) -> list[float]:
        """Return the finite numbers of an element, none if it is missing or empty."""
        value = item.get(keyword)
        if value is None or value == "":
            return []
        values = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        found = [float(number) for number in values]
        if not all(map(isfinite, found)):
            raise self.refuse("a number in its header that is not finite")
        return found

    def whole(self, keyword: str) -> int | None:
        """Return the one whole number of an element, None if it is missing or empty."""
        found = self.numbers(self.data, keyword)
        if not found:
            return None
        if len(found) > 1 or found[0] != int(found[0]):
            raise self.refuse("a size in its header that is not one whole number")
        return int(found[0])

    def group(self, macro: str, frame: int) -> Dataset:
        """Return the functional group of a frame, its own or shared; the data set itself if it has no such group."""
        own = self.data.get("PerFrameFunctionalGroupsSequence") or []
        if own and frame >= len(own):
            raise self.refuse(f"functional groups for {len(own)} frames, fewer than it says to have")
        shared = self.data.get("SharedFunctionalGroupsSequence") or []
        for item in (*own[frame : frame + 1], *shared[:1]):
            if inner := item.get(macro):
                return cast(Dataset, inner[0])
        return self.data


def encoding(start: bytes) -> tuple[bool, bool] | None:
    """Return (implicit VR, little endian) of a data set that starts with group 0002 or 0008, None for other bytes."""
    if len(start) < 8:
        return None
    for little in (True, False):
        group, element, length = struct.unpack("<HHL" if little else ">HHL", start[:8])
        if group in (2, 8) and (element == 0 or dictionary_has_tag(group << 16 | element)):
            if start[4:6] in VALUE_REPRESENTATIONS:
                return False, little
            if length <= 2**16:  # the first elements are short
                return True, little
    return None


VALUE_REPRESENTATIONS = {vr.encode() for vr in VR if len(vr) == 2}


def parse(content: bytes, where: Path, limits: Limits, pixels: bool) -> ParsedDicom:
    """Return the data set of a file, up to the pixels or with them; ImageLimitError beyond the limits."""
    try:
        source = _parse(content, where, limits, pixels)
        _bound_nesting(source.data, where, limits)
    except RecursionError:
        raise _too_deep(where, limits) from None
    return source


def _parse(content: bytes, where: Path, limits: Limits, pixels: bool) -> ParsedDicom:
    """Return the data set of a file whose nesting is not checked yet."""
    stream = BytesIO(content)
    start = stream.seek(132 if content[128:132] == b"DICM" else 0)
    implicit, little = encoding(content[start : start + 8]) or (False, True)
    meta = read_dataset(stream, implicit, little, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    start, syntax = stream.tell(), meta.get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        stream = BytesIO(_inflate(content[start:], where, limits))
        implicit, little = False, True
    elif syntax:
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    else:
        implicit, little = encoding(content[start : start + 8]) or (True, True)
        syntax = (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian) if little else ExplicitVRBigEndian
    stop = None if pixels else lambda tag, vr, length: tag in PIXEL_TAGS
    data = read_dataset(stream, implicit, little, stop_when=stop)
    sop_class = str(data.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    return ParsedDicom(data, where, UID(str(syntax)), little, sop_class)


def _inflate(content: bytes, where: Path, limits: Limits) -> bytes:
    """Return deflated content inflated; ImageLimitError if it is too long."""
    unfold = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    inflated = unfold.decompress(content, limits.max_inflated + 1)
    if len(inflated) > limits.max_inflated:
        found = f"deflated content that unfolds to more than {limits.max_inflated} bytes"
        raise ImageLimitError(where, found, "shrink the image or raise max_inflated")
    if not unfold.eof:
        raise ImageError(where, "deflated content that is cut off", REMEDY_EXPORT_IMAGE)
    return inflated


def _bound_nesting(data: Dataset, where: Path, limits: Limits) -> None:
    """Raise ImageLimitError for sequences nested too deep.

    The check goes level by level, because pydicom parses sequences of known length only when asked.
    """
    waiting = [(data, 0)]
    while waiting:
        item, depth = waiting.pop()
        for tag in list(item.keys()):  # iterating over the item itself would parse all of its values
            raw = item.get_item(tag)
            if _may_nest(raw, limits.max_nesting - depth):
                if depth == limits.max_nesting:
                    raise _too_deep(where, limits)
                waiting.extend((inner, depth + 1) for inner in item[tag].value)


MIN_LEVEL_BYTES = 16  # bytes of the headers of a sequence and its item


def _may_nest(raw: DataElement | RawDataElement | None, levels: int) -> bool:
    """Return if an element is a sequence that may reach deeper than so many levels."""
    if isinstance(raw, RawDataElement):
        known = dictionary_VR(raw.tag) if dictionary_has_tag(raw.tag) else "UN"
        sequence = raw.VR == "SQ" or (raw.VR in (None, "UN") and known == "SQ")
        return sequence and len(raw.value or b"") >= MIN_LEVEL_BYTES * levels
    return raw is not None and raw.VR == "SQ"


def _too_deep(where: Path, limits: Limits) -> ImageLimitError:
    """Return the error for sequences nested too deep."""
    found = f"sequences nested deeper than {limits.max_nesting} levels"
    return ImageLimitError(where, found, REMEDY_EXPORT_IMAGE + " without them or raise max_nesting")
