"""Rows of tables of scores and of parts of archives, read back."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from aeflow.data.parquet import batches_of
from aeflow.data.records import Record
from aeflow.errors import ArtifactError
from aeflow.imageio.errors import ImageError
from aeflow.results.score_table import columns
from aeflow.results.unfinished_table import Row
from aeflow.scoring.score_files import Summary
from aeflow.scoring.studies import ScoredSlice, Studies

REMEDY = "delete it, and repeat the command that scored it"


def rows_of(table: Path, names: list[str]) -> Iterator[Row]:
    """Yield some columns of the rows of a table, ``.csv`` or ``.parquet``; ArtifactError if it is damaged."""
    if table.suffix == ".csv":
        with table.open(encoding="utf-8", newline="") as file:
            for row in _typed(csv.DictReader(file)):
                yield {name: row.get(name) for name in names}
        return
    import pyarrow as pa

    try:
        for batch in batches_of(table, names):
            yield from (dict.fromkeys(names) | row for row in batch.to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(table, f"damaged ({type(error).__name__})", REMEDY) from error


def summary_of(table: Path, rate: float) -> Summary:
    """Return the summary of a whole table of scores, with the keys of studies and patients that stand in it.

    ``rate``: of normals that exceed the threshold.
    """
    summary, studies = Summary(), Studies(rate)
    refused: set[str] = set()
    for number, row in enumerate(rows_of(table, list(columns())), 1):
        path, study = row["path"], row["study"]
        if row["refusal"] is None:
            summary.verdicts[row["verdict"]] += 1
            if row["outside"]:
                summary.outside[tuple(row["outside"].split(", "))] += 1
                summary.outside_called[row["verdict"]] += 1
            if study is not None:
                found = ScoredSlice(number, row["patient"], row["label"], row["score"], row["p_value"])
                studies.add_scored(study, found)
        elif row["refusal"] != "empty":
            if study is not None:
                studies.add_refused(study)
            if row["refusal"] == "image" or path not in refused:
                refused.add(path)
                reason, _, remedy = row["error"].partition("; ")
                record = Record(Path(path), path, None, row["label"], row["patient"], None, None)
                summary.refusals.append((record, ImageError(path, reason, remedy)))
    summary.studies.extend(studies.results())
    return summary


def _typed(rows: Iterable[dict[str, str]]) -> Iterator[Row]:
    """Yield rows of text, as CSV holds them, with the types that their columns have."""
    kinds = columns(uids=True)
    for row in rows:
        yield {name: _value(text, kinds.get(name, "string")) for name, text in row.items()}


def _value(text: str, kind: str) -> str | int | float | None:
    if not text:
        return None
    return float(text) if kind == "float64" else int(text) if kind.startswith("int") else text
