"""Plan of an archive: all files to score, listed once and cut into parts; on disk, so that memory does not grow.

It is a file of Arrow's whose record batches are the parts, read one by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aeflow.archive.item import Item
from aeflow.errors import ArtifactError
from aeflow.runtime.files import file_digest, replacing

if TYPE_CHECKING:
    import pyarrow as pa

# A part is lost if its worker is killed, and takes a row or more a file in memory. So it has at most so many files,
# some seconds of work, and at most so many bytes: of files of many slices fewer.
MAX_FILES = 512
MAX_BYTES = 2**30
TEXTS = ("name", "path")  # kept as bytes, since names of files need not be text


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a plan: its number from 0, and its files."""

    number: int
    items: list[Item]


def write_plan(items: Iterable[Item], path: Path) -> int:
    """Write a plan as a whole or not at all; return its number of files."""
    import pyarrow as pa

    files = 0
    packing = pa.ipc.IpcWriteOptions(compression="zstd")
    with replacing(path) as file, pa.ipc.new_file(file, _schema(), options=packing) as plan:
        for number, part in enumerate(_cut(items)):
            files += len(part)
            plan.write_batch(as_batch(Part(number, part)))
    return files


class Plan:
    """A plan on disk, whose SHA-256 is ``digest``; ``len`` is its number of parts."""

    def __init__(self, path: Path, digest: str) -> None:
        import pyarrow as pa

        try:
            if file_digest(path) != digest:
                raise ValueError("checksum differs")
            self._parts = pa.ipc.open_file(pa.memory_map(str(path)))
        except (OSError, ValueError) as error:  # those of Arrow are of the latter
            raise ArtifactError(path, "the plan is missing or damaged", "score all again with --overwrite") from error

    def __len__(self) -> int:
        return int(self._parts.num_record_batches)

    def part(self, number: int) -> Part:
        """Return one part."""
        return from_batch(self._parts.get_batch(number))

    def files_in(self, number: int) -> int:
        """Return the number of files of one part."""
        return int(self._parts.get_batch(number).num_rows)


def as_batch(part: Part) -> pa.RecordBatch:
    """Return a part as a batch of Arrow's."""
    import pyarrow as pa

    rows = [
        {"part": part.number, **item._replace(name=os.fsencode(item.name), path=os.fsencode(item.path))._asdict()}  # type: ignore[arg-type]
        for item in part.items
    ]
    return pa.RecordBatch.from_pylist(rows, _schema())


def from_batch(batch: pa.RecordBatch) -> Part:
    """Return the part of ``as_batch``."""
    rows = batch.to_pylist()
    number = rows[0]["part"]
    for row in rows:
        del row["part"]
        row |= {name: os.fsdecode(row[name]) for name in TEXTS}
    return Part(number, [Item(**row) for row in rows])


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {"part": pa.int64(), "label": pa.int8(), "bytes": pa.int64(), **dict.fromkeys(TEXTS, pa.binary())}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in ("part", *Item._fields)])


def _cut(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items of each part."""
    part: list[Item] = []
    size = 0
    for item in items:
        if len(part) == MAX_FILES or (part and size + (item.bytes or 0) > MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += item.bytes or 0
    if part:
        yield part
