"""Table of scores that a stop has left unfinished: what it was to be, and the rows of the files that are done.

::

    scores.csv.part           its rows so far
    scores.parquet.rows.part  likewise, as JSON lines: Parquet cannot be read before its end
    scores.csv.task.part      the model, the threshold and the files that it is of

The file whose rows come last may have more, so it is scored again.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

from aeflow.data.records import Record
from aeflow.errors import OutputError, printable
from aeflow.runtime.files import PART, UNENCODABLE, part_of, write_text

Row = dict[str, Any]
Task = Mapping[str, str | float | bool]  # by what a person would call it


def task_file(table: Path) -> Path:
    """Return where it stands what an unfinished table is of."""
    return table.with_name(f"{table.name}.task{PART}")


def rows_file(table: Path) -> Path:
    """Return where the rows of a table are until it is whole."""
    return part_of(table) if table.suffix == ".csv" else table.with_name(f"{table.name}.rows{PART}")


class UnfinishedTable:
    """What is left of a table, opened before its successor takes its place; a context, which closes it."""

    def __init__(self, table: Path, task: Task, files: Sequence[Record], overwrite: bool) -> None:
        """Find the rows that can stay: none unless they are of the same task; OutputError if they are of another one.

        To ``overwrite`` those are dropped.
        """
        self.files, self.rows = 0, 0  # that stay
        self._table, self._task = table, task
        self._read: Callable[[IO[str]], Iterator[Row]] = _from_csv if table.suffix == ".csv" else _from_lines
        self._stack = ExitStack()
        self._file: IO[str] | None = None
        former = _task_of(table)
        if former is None or not rows_file(table).is_file():
            return
        other = next((name for name, value in task.items() if former.get(name) != value), None)
        if other is not None and overwrite:
            return
        if other is not None:
            remedy = "repeat the command as it was begun, or score all again with --overwrite"
            raise OutputError(rows_file(table), f"is what is left of a table with another {other}", remedy)
        self._file = self._stack.enter_context(rows_file(table).open(encoding="utf-8", errors=UNENCODABLE, newline=""))
        self._count(files)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._stack.close()

    def begin(self) -> None:
        """Write down what the table is of, before its first row."""
        write_text(task_file(self._table), json.dumps(dict(self._task), indent=1, allow_nan=False))

    def kept(self) -> Iterator[Row]:
        """Yield the rows that stay."""
        if self._file is not None:
            self._file.seek(0)
            for _, row in zip(range(self.rows), self._read(self._file), strict=False):
                yield row

    def _count(self, files: Sequence[Record]) -> None:
        """Count the files that are done, all before the one whose rows come last, and their rows."""
        assert self._file is not None, "there are rows"
        names = [printable(record.name) for record in files]
        number = {name: i for i, name in reversed(list(enumerate(names)))}
        last = -1
        for row, found in enumerate(self._read(self._file)):
            following = names[last + 1] if last + 1 < len(names) else None
            at = last + 1 if found["path"] == following else number.get(found["path"], last)
            if at > last:  # else one more of the same file, or of those that a DICOMDIR lists
                last, self.rows = at, row
        self.files = max(last, 0)


def _task_of(table: Path) -> dict[str, object] | None:
    """Return what an unfinished table was to be; None if nothing is left, or nothing that can be read."""
    try:
        found = json.loads(task_file(table).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _from_csv(file: IO[str]) -> Iterator[Row]:
    yield from csv.DictReader(_whole_lines(file))


def _from_lines(file: IO[str]) -> Iterator[Row]:
    """Yield the rows of JSON lines."""
    return map(json.loads, _whole_lines(file))


def _whole_lines(file: IO[str]) -> Iterator[str]:
    """Yield the lines of a file but for a last one that was cut off."""
    return (line for line in file if line.endswith("\n"))
