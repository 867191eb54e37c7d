"""Parsing of DICOM bytes into a data set: encoding detected, inflated within bounds, nesting bounded.

No value of a header reaches an error, a warning or a log: pydicom's own messages quote values and are turned off here.
Delimiters that belong to no sequence are passed over, and an item without an end ends with its sequence, as ITK and
DCMTK have it.
"""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, config, filereader
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import VR

from aeflow.imageio.dicom import values
from aeflow.imageio.dicom.values import UnreadableError, described
from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.limits import Limits

EXPORT = "export it again"

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

    def refuse(self, found: str, remedy: str = EXPORT) -> ImageError:
        """Return the ImageError that refuses this file."""
        return ImageError(self.where, found, remedy)

    def components(self, item: Dataset, keyword: str) -> list[float | None]:
        """Return the numbers of an element, None for an empty one; ImageError unless all are finite numbers."""
        try:
            return values.numbers(item, keyword)
        except UnreadableError:
            raise self.refuse(f"its {described(keyword)} is no finite number", f"correct it, or {EXPORT}") from None

    def numbers(self, item: Dataset, keyword: str) -> list[float]:
        """Return the numbers of an element, none if it is missing or empty; raises as ``components``."""
        return [number for number in self.components(item, keyword) if number is not None]

    def whole(self, keyword: str) -> int | None:
        """Return the one whole number of an element, None if it is missing or empty."""
        found = self.numbers(self.data, keyword)
        if not found:
            return None
        if len(found) > 1 or found[0] != int(found[0]):
            raise self.refuse(f"its {described(keyword)} is not one whole number")
        return int(found[0])

    def text(self, item: Dataset, keyword: str) -> str:
        """Return the text of an element, empty if it is missing; ImageError if it cannot be read."""
        try:
            return values.text(item, keyword) or ""
        except UnreadableError:
            raise self.refuse(f"its {described(keyword)} cannot be read") from None

    def items(self, data: Dataset, keyword: str) -> list[Dataset]:
        """Return the items of a sequence in which anything has a value; ImageError if it cannot be read."""
        try:
            found = data.get(keyword)
            return [item for item in found or [] if any(has_value(item, tag) for tag in item.keys())]  # noqa: SIM118
        except Exception:  # pydicom raises many kinds, and an element of another kind has no items
            raise self.refuse(f"its {described(keyword)} cannot be read") from None

    def group(self, macro: str, frame: int) -> Dataset:
        """Return the functional group of a frame, its own or shared; the data set itself if it has no such group."""
        own = self._sequence("PerFrameFunctionalGroupsSequence")
        if own and frame >= len(own):
            raise self.refuse(f"functional groups for {len(own)} frames, fewer than it says to have")
        for item in (*own[frame : frame + 1], *self._sequence("SharedFunctionalGroupsSequence")[:1]):
            if inner := self.items(item, macro):
                return inner[0]
        return self.data

    def _sequence(self, keyword: str) -> list[Dataset]:
        """Return all items of a sequence, empty ones, too, since their place counts."""
        found = self.data.get(keyword)
        return list(found) if isinstance(found, Sequence) else []


def has_value(item: Dataset, tag: BaseTag | str) -> bool:
    """Return if an item has an element that is not empty; a sequence must hold an item."""
    raw = item.get_item(tag) if tag in item else None
    return raw is not None and raw.value not in (None, b"", "") and (raw.VR != "SQ" or len(raw.value) > 0)


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


def parse(content: bytes, where: Path, limits: Limits) -> ParsedDicom:
    """Return the data set of a file; ImageLimitError beyond the limits, ImageError that names where it is damaged."""
    try:
        source = _parse(content, where, limits)
        _bound_nesting(source.data, where, limits)
    except RecursionError:
        raise _too_deep(where, limits) from None
    return source


def _parse(content: bytes, where: Path, limits: Limits) -> ParsedDicom:
    """Return the data set of a file whose nesting is not checked yet."""
    start = 132 if content[128:132] == b"DICM" else 0
    implicit, little = encoding(content[start : start + 8]) or (False, True)
    meta, start = _elements(content, start, implicit, little, where, group=2)
    syntax = _uid(meta, "TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        content, start = _inflate(content[start:], where, limits), 0
        implicit, little = False, True
    elif syntax:
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    else:
        implicit, little = encoding(content[start : start + 8]) or (True, True)
        syntax = (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian) if little else ExplicitVRBigEndian
    data, _ = _elements(content, start, implicit, little, where)
    sop_class = _uid(data, "SOPClassUID") or _uid(meta, "MediaStorageSOPClassUID")
    return ParsedDicom(data, where, UID(syntax), little, sop_class)


def _uid(data: Dataset, keyword: str) -> str:
    """Return a UID, empty if there is none that can be read: it then says nothing."""
    try:
        return values.text(data, keyword) or ""
    except UnreadableError:
        return ""


def _elements(
    content: bytes, at: int, implicit: bool, little: bool, where: Path, group: int | None = None
) -> tuple[Dataset, int]:
    """Return the elements from ``at`` on, or those of one group, and where they end; delimiters among them are none."""
    stream, found, last, stopped = BytesIO(content), Dataset(), 0, False

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal last, stopped
        last, stopped = tag, tag >> 16 == DELIMITERS or (group is not None and tag >> 16 != group)
        return stopped

    delimiter = struct.pack("<H" if little else ">H", DELIMITERS)
    while True:
        while content[at : at + 2] == delimiter:
            at += 8
        stream.seek(at)
        last, stopped = 0, False
        try:
            part = read_dataset(stream, implicit, little, stop_when=stop)
        except RecursionError:
            raise
        except Exception:  # pydicom raises many kinds, whose texts quote values
            raise _damaged(where, last) from None
        if not part and last and not stopped:  # pydicom gave all of them up
            raise _damaged(where, last)
        if found:
            found.update({tag: part.get_item(tag) for tag in part.keys()})  # noqa: SIM118
        else:
            found = part
        at = stream.tell()
        if at >= len(content) or (stopped and last >> 16 != DELIMITERS):
            return found, at  # else at a delimiter, or behind the end of an item, where pydicom stops by itself


DELIMITERS = 0xFFFE  # the group of the elements that begin and end items and sequences


def _damaged(where: Path, last: int) -> ImageError:
    """Return the error of a header that pydicom cannot take apart after it met the element ``last``."""
    place = f"in or before its {described(last)}" if last else "from its first element on"
    return ImageError(where, f"DICOM that is damaged or cut off {place}", EXPORT)


def _read_item(*args: Any, **options: Any) -> Dataset:
    """Read a data set as pydicom does; an item of undefined length whose end is missing ends with its sequence."""
    if not options.get("at_top_level", True) and options.get("bytelength") is None and len(args) < 4:
        options["stop_when"] = lambda tag, vr, length: tag == 0xFFFEE0DD
    return read_dataset(*args, **options)


filereader.read_dataset = _read_item  # which pydicom calls for each item


def _inflate(content: bytes, where: Path, limits: Limits) -> bytes:
    """Return deflated content inflated; ImageLimitError if it is too long."""
    unfold = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        inflated = unfold.decompress(content, limits.max_inflated + 1)
    except zlib.error:
        raise ImageError(where, "deflated content that is damaged", EXPORT) from None
    if len(inflated) > limits.max_inflated:
        found = f"deflated content that unfolds to more than {limits.max_inflated} bytes"
        raise ImageLimitError(where, found, "shrink the image or raise max_inflated")
    if not unfold.eof:
        raise ImageError(where, "deflated content that is cut off", EXPORT)
    return inflated


def _bound_nesting(data: Dataset, where: Path, limits: Limits) -> None:
    """Raise ImageLimitError for sequences nested too deep.

    The check goes level by level, because pydicom parses sequences of known length only when asked.
    """
    waiting = [(data, 0)]
    while waiting:
        item, depth = waiting.pop()
        for tag in list(item.keys()):  # iterating over the item itself would parse all of its values
            if tag >> 16 == DELIMITERS:  # a delimiter of nothing
                del item[tag]
            elif _may_nest(_stored(item, tag, where), limits.max_nesting - depth):
                if depth == limits.max_nesting:
                    raise _too_deep(where, limits)
                waiting.extend((inner, depth + 1) for inner in _items(item, tag, where))


def _stored(item: Dataset, tag: BaseTag, where: Path) -> DataElement | RawDataElement | None:
    """Return an element as it lies in the file; ImageError if pydicom cannot even look at it."""
    try:
        return item.get_item(tag)
    except Exception:  # pydicom raises many kinds, whose texts quote values
        raise _damaged(where, tag) from None


def _items(item: Dataset, tag: BaseTag, where: Path) -> Iterator[Dataset]:
    """Yield the items of a sequence; ImageError if pydicom cannot take it apart."""
    try:
        yield from item[tag].value
    except RecursionError:
        raise
    except Exception:  # pydicom raises many kinds, whose texts quote values
        raise _damaged(where, tag) from None


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
    return ImageLimitError(where, found, EXPORT + " without them or raise max_nesting")
