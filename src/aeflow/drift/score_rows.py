"""Rows of tables of scores (CSV, Parquet, folders of Parquet parts), read as one table of numbers and words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aeflow._types import Floats
from aeflow.data.parquet import whole_of
from aeflow.data.table import read_table
from aeflow.errors import DataError, check_path, count, nearest

NEEDED = ("path", "score", "p_value")
STUDIES = ".studies.csv"  # ending of the name of a table of studies, which lies beside a table of scores
GIVE = "give a table that `aeflow score --out` wrote"
Columns = dict[str, list[Any]]  # cells by column: text, numbers, or None


@dataclass
class ScoreRows:
    """Scored images of one or several tables, each image once; cells that are empty are None."""

    columns: Columns
    sources: list[Path]  # the table of each row
    refused: int  # rows without a score
    repeated: int  # rows of an image that stands in an earlier row
    passed_over: list[Path] = field(default_factory=list)  # tables of studies

    def __len__(self) -> int:
        return len(self.sources)

    def words(self, name: str) -> list[str]:
        """Return a column as text, empty for an empty cell; DataError, naming the nearest one, if there is none."""
        if name not in self.columns:
            near = nearest(name, self.columns)
            further = sorted(self.columns.keys() - NEEDED)
            other = f"name a second table that has it with --join, or one of {', '.join(further)}"
            found = f"no column '{name}' among {count(len(self.columns), 'column')}"
            raise DataError(self.sources[0], found, f"name '{near}'" if near else other)
        return ["" if cell is None else str(cell).strip() for cell in self.columns[name]]

    def numbers(self, name: str) -> Floats:
        """Return a column as numbers (n,), NaN for an empty cell or a column that is not there."""
        cells = self.columns.get(name)
        if cells is None:
            return np.full(len(self), np.nan)
        return np.array([_number(cell, source, name) for cell, source in zip(cells, self.sources, strict=True)])

    def taken(self, rows: Sequence[int]) -> ScoreRows:
        """Return some of the rows, in this order."""
        columns = {name: [cells[row] for row in rows] for name, cells in self.columns.items()}
        return ScoreRows(columns, [self.sources[row] for row in rows], self.refused, self.repeated, self.passed_over)


def read_scores(tables: Iterable[Path]) -> ScoreRows:
    """Read tables one after the other; raises DataError if one cannot be read, or if none holds a score."""
    given, passed = list(tables), list[Path]()
    columns: Columns = {}
    sources: list[Path] = []
    for path in (file for table in given for file in _files(table)):
        if path.name.endswith(STUDIES):
            passed.append(path)
            continue
        found, rows = read_columns(path, NEEDED)
        for name in found.keys() | columns.keys():
            columns.setdefault(name, [None] * len(sources)).extend(found.get(name, [None] * rows))
        sources += [path] * rows
    every = ScoreRows(columns, sources, 0, 0, passed)
    scored, seen = [], set()
    slices = columns.get("slice", [None] * len(sources))
    for row in range(len(sources)):
        image = str(columns["path"][row]), _whole(slices[row])
        if columns["score"][row] is None:
            every.refused += 1
        elif image in seen:
            every.repeated += 1
        else:
            seen.add(image)
            scored.append(row)
    if not scored:
        where = given[0] if len(given) == 1 else count(len(given), "table")
        refused = f"; of {count(every.refused, 'row')} none has a score" if every.refused else ""
        raise DataError(where, f"no scored image{refused}", GIVE)
    return every.taken(scored)


def joined(rows: ScoreRows, table: Path) -> ScoreRows:
    """Return the rows with the further columns of a second table, by ``path``, and ``slice`` if both have it.

    Raises DataError if that table lists an image twice, or none of the rows'.
    """
    found, n = read_columns(table, ("path",))
    by_slice = "slice" in found and "slice" in rows.columns

    def keys(columns: Mapping[str, Sequence[Any]]) -> list[tuple[str, str]]:
        slices = map(_whole, columns["slice"]) if by_slice else ("" for _ in columns["path"])
        return list(zip(map(str, columns["path"]), slices, strict=True))

    place: dict[tuple[str, str], int] = {}
    for row, key in enumerate(keys(found)):
        if key in place:
            twice = f"rows {place[key] + 1} and {row + 1} have the same path"
            raise DataError(table, twice, "give every image one row")
        place[key] = row
    at = [place.get(key) for key in keys(rows.columns)]
    if all(row is None for row in at):
        found_paths = f"none of its {count(n, 'path')} is among those of the scores"
        raise DataError(table, found_paths, "write the paths as the tables of scores have them")
    new = {name: cells for name, cells in found.items() if name not in rows.columns}
    more = {name: [None if row is None else cells[row] for row in at] for name, cells in new.items()}
    return ScoreRows({**rows.columns, **more}, rows.sources, rows.refused, rows.repeated, rows.passed_over)


def read_columns(path: Path, needed: Sequence[str]) -> tuple[Columns, int]:
    """Return the columns of a table and the number of its rows; raises DataError if it lacks one, or is no table."""
    if path.suffix == ".parquet":
        return _parquet(path, needed)
    table = read_table(path, needed, remedy=GIVE)
    names = [name for name in table.columns if name]
    return {name: [row.values[name] or None for row in table.rows] for name in names}, len(table.rows)


def _files(table: Path) -> list[Path]:
    """Return the files of a table: itself, or the parts in a folder in the order of their names."""
    if not table.is_dir():
        return [table]
    parts = sorted(table.rglob("*.parquet"))
    if not parts:
        raise DataError(table, "a folder without Parquet parts", "name tables, or a folder of .parquet files")
    return parts


def _parquet(path: Path, needed: Sequence[str]) -> tuple[Columns, int]:
    import pyarrow as pa

    try:
        table = whole_of(path)
    except FileNotFoundError as error:
        raise DataError(path, "there is no such file", check_path(path)) from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(path, f"cannot be read as Parquet ({type(error).__name__})", GIVE) from error
    missing = [f"'{name}'" for name in needed if name not in table.column_names]
    if missing:
        raise DataError(path, f"no column {', '.join(missing)} among {count(table.num_columns, 'column')}", GIVE)
    return {name: table.column(name).to_pylist() for name in table.column_names}, table.num_rows


def _whole(cell: Any) -> str:
    """Return the number of a slice as text; pandas writes those of a column with gaps as 3.0."""
    return "" if cell is None else str(cell).removesuffix(".0")


def _number(cell: Any, source: Path, name: str) -> float:
    try:
        return np.nan if cell is None else float(cell)
    except ValueError:
        try:
            return float(str(cell).replace(",", ".", 1))  # as a spreadsheet may have written it
        except ValueError as error:
            found = f"{str(cell)!r} in column '{name}' is no number"
            raise DataError(source, found, "leave numbers as `aeflow score` wrote them") from error
