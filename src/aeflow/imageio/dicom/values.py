"""Values of single elements, as other readers take them from bytes that the standard does not allow.

Numbers in text (DS, IS) end at a NUL, may have blanks around them, empty components and a decimal comma. Text is read
as the dictionary says, whatever the file calls it; bytes that its character set lacks are taken as Latin-1, so that
two patients stay two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isfinite

from pydicom import Dataset
from pydicom.datadict import dictionary_description, dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import STR_VR

MAX_TEXT = 1024  # characters; the standard allows 64
DECIMAL = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)


class UnreadableError(ValueError):
    """Error of an element whose value cannot be understood; its text never quotes the value."""


def described(tag: int | str) -> str:
    """Return an element as errors name it.

    >>> described("PatientID"), described(0x00091001)
    ('Patient ID (0010,0020)', 'element (0009,1001)')
    """
    number = _tag(tag) if isinstance(tag, str) else tag
    name = dictionary_description(number) if dictionary_has_tag(number) else "element"
    return f"{name} ({number >> 16:04X},{number & 0xFFFF:04X})"


def numbers(item: Dataset, keyword: str) -> list[float | None]:
    """Return the numbers of an element, None for an empty one; UnreadableError unless all are finite numbers."""
    tag = _tag(keyword)
    if tag not in item:
        return []
    raw = _stored(item, tag)
    known = dictionary_VR(tag)
    if isinstance(raw, RawDataElement) and (known if raw.VR in (None, "UN") else raw.VR) in STR_VR:
        found: Iterable[object] = bytes(raw.value or b"").decode("ascii", "replace").split("\\")
    else:
        try:
            value = item[tag].value
        except Exception as error:  # pydicom raises many kinds
            raise UnreadableError(type(error).__name__) from None
        if isinstance(value, str):
            found = value.split("\\")
        else:
            found = value if isinstance(value, Iterable) and not isinstance(value, bytes) else [value]
    return [_number(part) for part in found]


def text(item: Dataset, keyword: str) -> str | None:
    """Return the text of an element, None if it is missing or empty; UnreadableError if it is none, or endless."""
    tag = _tag(keyword)
    if tag not in item:
        return None
    raw = _stored(item, tag)
    if isinstance(raw, RawDataElement):
        content = bytes(raw.value or b"")
        if len(content) > 4 * MAX_TEXT:
            raise UnreadableError(f"{len(content)} bytes")
        try:
            known = raw._replace(VR=dictionary_VR(tag), value=content, length=len(content))
            value = convert_raw_data_element(known, encoding=item.original_character_set).value
        except Exception:  # pydicom's and the codecs', of many kinds
            value = "\ufffd"
        if "\ufffd" in str(value):
            value = content.decode("latin-1")
    else:
        value = None if raw is None else raw.value
    if isinstance(value, Iterable) and not isinstance(value, str):
        parts = list(value)
        if not all(isinstance(part, str) for part in parts):
            raise UnreadableError("no text")
        value = "\\".join(parts)
    found = "" if value is None else str(value).strip(" \0\t\r\n")
    if len(found) > MAX_TEXT:
        raise UnreadableError(f"{len(found)} characters")
    return found or None


def _stored(item: Dataset, tag: BaseTag) -> DataElement | RawDataElement | None:
    """Return an element as it lies in the file, or as pydicom understood it before."""
    return item.get_item(tag)


def _tag(keyword: str) -> BaseTag:
    """Return the tag of an element of the standard."""
    return Tag(keyword)


def _number(part: object) -> float | None:
    """Return a number, None for nothing; UnreadableError for anything else."""
    if part is None:
        return None
    if isinstance(part, str):
        written = part.split("\0")[0].strip()
        if not written:
            return None
        if not DECIMAL.fullmatch(written):
            raise UnreadableError("no number")
        found = float(written.replace(",", "."))
    elif isinstance(part, int | float):
        found = float(part)
    else:
        raise UnreadableError("no number")
    if not isfinite(found):
        raise UnreadableError("no finite number")
    return found
