"""Tables that people have, read in one way: CSV as any spreadsheet or script writes it.

A table is UTF-8 (with a mark or without), UTF-16, or else Windows-1252, the Western European one that holds Latin-1's
letters. Commas, semicolons or tabs stand between fields, whichever splits the first line into the columns that are
needed; a first line ``sep=;`` says so by itself. Capitals in the names of columns do not matter, nor do blanks around
values and quotes, nor lines and last columns without content. What could mean two things is refused with its line.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aeflow.errors import DataError, check_path, count, nearest
from aeflow.runtime.files import opened

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
ALIKE = 0.8  # least likeness of a misspelling: more than of a hint, since the table is refused for it
BLANK_AFTER_QUOTE = re.compile(r'("(?:[^"]|"")*")[ \t]+(?=[,;\t\r\n]|\Z)')
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")  # as a file's own; io.StringIO takes four bytes a character
SAVE_AGAIN = "save it as CSV in UTF-8, with the names of the columns in the first line"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: the number of its last line, and its values by column, without blanks around them."""

    line: int
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as read: its columns, the known ones as they are spelt in the program, and its rows."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path, needed: Sequence[str], known: Sequence[str] = (), remedy: str = SAVE_AGAIN) -> Table:
    """Read a table that has the ``needed`` columns; others that are not ``known`` may be there, too.

    Raises DataError if it cannot be read or lacks a column, for a column that looks like a misspelt known one, and,
    naming the line, for a row with more or fewer fields than columns.
    """
    columns, rows = stream_table(path, needed, known, remedy)
    return Table(columns, tuple(rows))


def stream_table(
    path: Path, needed: Sequence[str], known: Sequence[str] = (), remedy: str = SAVE_AGAIN
) -> tuple[tuple[str, ...], Iterator[Row]]:
    """Return the columns of a table and its rows one by one; otherwise as ``read_table``."""
    try:
        with opened(path) as (file, _):
            text = _decoded(file.read())
    except FileNotFoundError as error:
        raise DataError(path, "there is no such file", check_path(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({type(error).__name__})", remedy) from error
    delimiter, text, skipped = _delimiter(text, needed)
    # A spreadsheet's blank between a closing quote and the delimiter means nothing.
    lines = (line[0] for line in LINE.finditer(BLANK_AFTER_QUOTE.sub(r"\1", text)))
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)

    def filled() -> Iterator[tuple[int, list[str]]]:
        """Yield the rows that hold anything, with the number of their last lines."""
        try:
            for row in reader:
                if any(fields := [field.strip() for field in row]):
                    yield reader.line_num + skipped, fields
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num + skipped}", f"no CSV ({error})", remedy) from error

    found = filled()
    columns = _columns(path, next(found, (0, []))[1], needed, known, remedy)

    def rows() -> Iterator[Row]:
        for line, fields in found:
            while len(fields) > len(columns) and not fields[-1]:
                fields.pop()
            if len(fields) != len(columns):
                wrong = f"{count(len(fields), 'field')} under {count(len(columns), 'column')}"
                fix = f"give every row one field a column, with {DELIMITERS[delimiter]} in quotes"
                raise DataError(f"{path}, line {line}", wrong, fix)
            yield Row(line, {name: field for name, field in zip(columns, fields, strict=True) if name})

    return columns, rows()


def _decoded(content: bytes) -> str:
    """Return a file's text; a mark at its start, else its zero bytes, tell UTF-16."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    if content[1:2] == b"\0" or content[:1] == b"\0":
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def _delimiter(text: str, needed: Sequence[str]) -> tuple[str, str, int]:
    """Return the delimiter, the text without a line that only names it, and the number of such lines."""
    said = re.match(r"sep=([,;\t])\r?\n", text)
    if said:
        return said[1], text[said.end() :], 1
    first = next((line for line in text.splitlines() if line.strip(" ,;\t")), "")

    def fits(delimiter: str) -> tuple[int, int]:
        fields = [field.strip(' "').casefold() for field in first.split(delimiter)]
        return sum(name.casefold() in fields for name in needed), len(fields)

    return max(DELIMITERS, key=fits), text, 0


def _columns(
    path: Path, header: list[str], needed: Sequence[str], known: Sequence[str], remedy: str
) -> tuple[str, ...]:
    """Return the names of the columns, known ones in the program's spelling; DataError if they cannot be used."""
    while header and not header[-1]:
        header.pop()
    spelling = {name.casefold(): name for name in (*known, *needed)}
    columns = tuple(spelling.get(name.casefold(), name) for name in header)
    twice = next((name for name in spelling.values() if columns.count(name) > 1), None)
    if twice is not None:
        raise DataError(path, f"two columns '{twice}'", "keep one of them")
    free = [name for name in spelling.values() if name not in columns]
    for name in columns:
        if name not in spelling.values() and (meant := _meant(name, free)) is not None:
            rename = f"write '{meant}'; if it is something else, give it another name"
            raise DataError(path, f"unknown column '{name}', which is much like '{meant}'", rename)
    missing = [f"'{name}'" for name in needed if name not in columns]
    if missing:
        found = f"no column {', '.join(missing)} among {count(len(columns), 'column')}"
        raise DataError(path, found, remedy)
    return columns


def _meant(name: str, free: Sequence[str]) -> str | None:
    """Return the known column that a name is a misspelling of, None if there is none."""
    turned = [known for known in free if sorted(known) == sorted(name.casefold())]
    return turned[0] if turned else nearest(name.casefold(), free, ALIKE)
