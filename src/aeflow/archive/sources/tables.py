"""Tables that list files: CSV, as a manifest, or Parquet, with a column ``path``; also read: ``label``, ``patient``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from aeflow.archive.item import Item, scheme_of
from aeflow.data.parquet import batches_of, schema_of
from aeflow.data.records import WRITTEN_LABELS
from aeflow.data.table import stream_table
from aeflow.errors import DataError, check_path
from aeflow.privacy import shown_key
from aeflow.runtime.extras import extra

SUFFIXES = (".csv", ".parquet")
READ = ("path", "label", "patient")
BATCH = 4096  # rows of Parquet that are read at once


def is_table(name: str) -> bool:
    """Return if a name is that of a table."""
    return name.lower().endswith(SUFFIXES)


def listed(table: Path, found: Callable[[str], Item], name: str | None = None) -> Iterator[Item]:
    """Yield the files that a table lists: ``found`` for the text in ``path``, or all that a URL there stands for.

    ``name``: of the table in messages, if not its path. DataError for a row that is wrong.
    """
    from aeflow.archive.sources import way_to  # which knows this module

    rows = _parquet_rows(table) if (name or str(table)).lower().endswith(".parquet") else _csv_rows(table)
    for line, row in rows:
        where = f"{name or table}, line {line}"
        path = row.get("path")
        if not path or "\0" in path:
            raise DataError(where, "names no file", "give every row a path")
        label = (row.get("label") or "").lower()
        if label not in WRITTEN_LABELS:
            raise DataError(
                where, "a label of another kind", "write 0 or normal, 1 or abnormal, nothing for unlabelled"
            )
        patient = row.get("patient")
        for item in way_to(path).items(path) if scheme_of(path) else [found(path)]:
            yield item._replace(label=WRITTEN_LABELS[label], patient=shown_key(patient) if patient else None)


def _csv_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    _, rows = stream_table(table, ("path",), READ)
    for row in rows:
        yield row.line, row.values


def _parquet_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each row from 1, and its values as text."""
    with extra("parquet"):
        import pyarrow as pa
    try:
        if "path" not in schema_of(table).names:
            raise DataError(table, "no column 'path'", "name the column that holds the files path")
        rows = (row for batch in batches_of(table, READ, BATCH) for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield number, {name: str(value) for name, value in row.items() if value is not None}
    except FileNotFoundError as error:
        raise DataError(table, "there is no such file", check_path(table)) from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(table, f"cannot be read ({type(error).__name__})", "write it as Parquet again") from error
