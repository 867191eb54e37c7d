"""Table of scores, one row per image in input order, written row by row: CSV for people, Parquet for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aeflow.data.records import Record
from aeflow.errors import DataError
from aeflow.imageio.errors import ImageError
from aeflow.model.terms import TERMS
from aeflow.privacy import shown_key
from aeflow.runtime.files import UNENCODABLE, encodable
from aeflow.scoring.score_files import Sink
from aeflow.scoring.scorer import Score

ROW_GROUP = 1024  # rows that are written to Parquet at once

Row = dict[str, Any]


def columns() -> dict[str, str]:
    """Return the columns of the table, with their types in Parquet."""
    return {
        "path": "string",  # as the user gave it; a salted hash where ``names`` are not asked for
        "slice": "int32",  # from 1, of a file that holds several images
        "label": "int8",  # 0 normal, 1 abnormal, empty unknown
        "patient": "string",  # salted hash, or the key with --identify
        "study": "string",  # likewise, if the file names one
        "score": "float64",
        "p_value": "float64",
        "verdict": "string",
        "outside": "string",  # why the image is outside the intended input, empty if it is not
        **dict.fromkeys(TERMS, "float64"),
        "posterior": "float64",  # the term of the classes, as the two before it
        "p_abnormal": "float64",  # probability of the classes; empty if the model has none
        "error": "string",  # why the image was refused; the score is empty then
    }


def score_row(record: Record, result: Score | ImageError, names: bool = True) -> Row:
    """Return one row of the table; without ``names`` the path is a pseudonym, as a patient's key always is."""
    line: Row = dict.fromkeys(columns())
    study = None if record.study is None else shown_key(record.study)
    path = record.name if names else shown_key(record.name)
    line |= {"path": path, "slice": record.slice_number, "label": record.label}
    line |= {"patient": shown_key(record.patient), "study": study}
    if isinstance(result, ImageError):
        return {**line, "error": f"{result.found}; {result.remedy}"}
    line |= {"score": result.value, "p_value": result.p_value, "verdict": result.verdict, **result.terms}
    line["outside"] = ", ".join(result.outside)
    return {**line, "p_abnormal": 1 - result.posterior["normal"] if result.posterior else None}


class ScoreTable(Sink):
    """A table of scores, ``.csv`` or ``.parquet``, in full float precision: one row for each image, in input order.

    ``names``: whoever asked for the table gave the files, and is to find them in it again.
    """

    def __init__(self, path: Path, names: bool = True) -> None:
        if path.suffix not in (".csv", ".parquet"):
            raise DataError(path, "the name says neither CSV nor Parquet", "end it in .csv or .parquet")
        self.path, self.names = path, names
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write = self._open.enter_context(_csv(self.path) if self.path.suffix == ".csv" else _parquet(self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        self._write(score_row(record, result, self.names))


class ScoreLines(Sink):
    """Lines on stdout: JSON objects for programs, or the scores alone for people; refusals go to stderr elsewhere."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        row = score_row(record, result)
        if self.as_json:
            print(json.dumps(row, allow_nan=False))
        elif row["score"] is not None:
            at = f", slice {row['slice']}" if row["slice"] else ""
            outside = f"  (outside intended input: {row['outside']})" if row["outside"] else ""
            found = f"{row['verdict']:8}  score {row['score']:8.3f}  p {row['p_value']:.4f}  {row['path']}"
            print(found + at + outside)


@contextmanager
def _csv(path: Path) -> Iterator[Callable[[Row], None]]:
    with path.open("w", encoding="utf-8", errors=UNENCODABLE, newline="") as file:
        lines = csv.DictWriter(file, list(columns()), lineterminator="\n")
        lines.writeheader()
        yield lines.writerow


@contextmanager
def _parquet(path: Path) -> Iterator[Callable[[Row], None]]:
    import pyarrow as pa  # takes a third of a second to import, and CSV does without
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns().items()])
    waiting: list[Row] = []
    with pq.ParquetWriter(path, schema) as parquet:

        def flush() -> None:
            parquet.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

        def add(line: Row) -> None:
            waiting.append({name: encodable(v) if isinstance(v, str) else v for name, v in line.items()})
            if len(waiting) == ROW_GROUP:
                flush()

        yield add
        flush()
