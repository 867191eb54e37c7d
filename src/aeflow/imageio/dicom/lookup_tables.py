"""Lookup tables of DICOM: modality, VOI (values of interest) and palette tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from aeflow.imageio.dicom.parse import ParsedDicom, has_value


@dataclass(frozen=True, slots=True)
class Table:
    """Entries from ``first`` on; values below take the first, values above the last (DICOM part 3, C.11.1.1.1)."""

    first: int
    entries: NDArray[np.float64]
    highest: int  # 2^bits - 1

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.clip(np.floor(values) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[at.astype(np.int64)])

    def unit(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the entries of the values, scaled to [0, 1]."""
        return np.minimum(self(values) / self.highest, 1)


def tables(source: ParsedDicom, keyword: str) -> list[Dataset]:
    """Return the items of a sequence that hold a table: an empty one says nothing."""
    items = source.items(source.data, keyword)
    return [item for item in items if any(has_value(item, name) for name in ("LUTDescriptor", "LUTData"))]


def table(source: ParsedDicom, item: Dataset, name: str, lowest: float) -> Table:
    """Return the table whose elements begin with ``name``; ``lowest`` is the lowest value that will be looked up."""
    descriptor = [int(number) for number in source.numbers(item, f"{name}Descriptor")]
    if len(descriptor) != 3 or not 8 <= descriptor[2] <= 16:
        raise source.refuse("a lookup table without a valid description")
    count, first, bits = descriptor
    count = count % 65536 or 65536
    if lowest < 0 and first > 32767:  # negative, written as unsigned
        first -= 65536
    segmented = f"Segmented{name}Data"
    if name != "LUT" and segmented in item:  # only palettes may be segmented
        words = _words(source, item, segmented)
        entries = _unfolded(source, words if bits > 8 else words.view(np.uint8), count)
    else:
        words = _words(source, item, f"{name}Data")
        entries = words if len(words) >= count else words.view(np.uint8)
    if len(entries) < count:
        raise source.refuse(f"a lookup table of {len(entries)} entries where it says to have {count}")
    entries = entries[:count]
    highest = 2**bits - 1
    if entries.dtype == np.uint8:
        highest = 255
    elif entries.max() > highest:
        highest = 65535
    return Table(first, entries.astype(np.float64), highest)


def _words(source: ParsedDicom, item: Dataset, keyword: str) -> NDArray[np.uint16]:
    """Return the 16-bit words of an element."""
    value: Any = item.get(keyword)
    if isinstance(value, bytes):
        if len(value) % 2:
            raise source.refuse("a lookup table of an odd number of bytes")
        return np.frombuffer(value, "<u2" if source.little else ">u2").astype("<u2")
    numbers = source.numbers(item, keyword)
    return np.array([int(number) % 65536 for number in numbers], "<u2")


def _unfolded(source: ParsedDicom, words: NDArray[Any], count: int) -> NDArray[Any]:
    """Return at most ``count`` entries of a segmented table (DICOM part 3, C.7.9.2).

    An indirect segment copies plain ones.
    """
    data: list[int] = words.tolist()
    width = words.dtype.itemsize
    entries: list[int] = []
    pending = [(0, len(data))]  # (position, segments left to read from there)
    while pending and len(entries) < count:
        at, left = pending.pop()
        if left == 0 or at + 2 > len(data):
            continue
        kind, length = data[at : at + 2]
        if kind == DISCRETE:
            entries += data[at + 2 : at + 2 + length]
            pending.append((at + 2 + length, left - 1))
        elif kind == LINEAR and entries and at + 3 <= len(data):
            entries += np.rint(np.linspace(entries[-1], data[at + 2], length + 1)[1:]).astype(int).tolist()
            pending.append((at + 3, left - 1))
        elif kind == INDIRECT and entries and not pending and at + 2 + 4 // width <= len(data):
            after = at + 2 + 4 // width
            offset = int.from_bytes(words[at + 2 : after].tobytes(), "little")  # in bytes
            pending += [(after, left - 1), (offset // width, length)]
        else:
            raise source.refuse("a segmented lookup table that is damaged")
    return np.array(entries, words.dtype)


DISCRETE, LINEAR, INDIRECT = 0, 1, 2  # kinds of segments
