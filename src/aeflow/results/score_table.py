"""Scores as a table, one row an image in input order, written as they come: CSV for people, Parquet for programs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aeflow.data.records import Record
from aeflow.errors import DataError
from aeflow.imageio.errors import ImageError
from aeflow.privacy import shown_patient
from aeflow.scoring.scorer import Score

COLUMNS = {  # and their types in Parquet
    "path": "string",  # as the user gave it; the one name that leaves the program
    "slice": "int32",  # from 1, of a file that holds several images
    "label": "int8",  # 0 normal, 1 abnormal, empty unknown
    "patient": "string",  # salted hash, or the key with --identify
    "study": "string",  # likewise, where the file names one
    "score": "float64",
    "p_value": "float64",
    "verdict": "string",
    "outside": "string",  # why the image is outside the intended input, empty if it is not
    "flow": "float64",
    "reconstruction": "float64",
    "posterior": "float64",  # the term, as the two before it
    "p_abnormal": "float64",  # the classes' probability; empty where the model has none
    "error": "string",  # why the image was refused; the score is empty then
}
ROW_GROUP = 1024  # rows that wait before Parquet takes them

Row = dict[str, Any]


def row(record: Record, result: Score | ImageError) -> Row:
    """One line of the table."""
    line: Row = dict.fromkeys(COLUMNS)
    study = None if record.study is None else shown_patient(record.study)
    line |= {"path": record.name, "slice": record.slice_number, "label": record.label}
    line |= {"patient": shown_patient(record.patient), "study": study}
    if isinstance(result, ImageError):
        return {**line, "error": f"{result.found}; {result.remedy}"}
    line |= {"score": result.value, "p_value": result.p_value, "verdict": result.verdict, **result.terms}
    line["outside"] = ", ".join(result.outside)
    return {**line, "p_abnormal": 1 - result.posterior["normal"] if result.posterior else None}


@contextmanager
def writer(path: Path) -> Iterator[Callable[[Row], None]]:
    """A function that adds a row to ``path``, ``.csv`` or ``.parquet``, in full float precision."""
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(path, "the name says neither CSV nor Parquet", "end it in .csv or .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            lines = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
            lines.writeheader()
            yield lines.writerow
        return
    import pyarrow as pa  # takes a third of a second to import, and CSV does without
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    waiting: list[Row] = []
    with pq.ParquetWriter(path, schema) as parquet:

        def flush() -> None:
            parquet.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

        def add(line: Row) -> None:
            waiting.append(line)
            if len(waiting) == ROW_GROUP:
                flush()

        yield add
        flush()
