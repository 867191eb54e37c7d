"""Table of studies, ``scores.studies.csv``: one line per study."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from aeflow.errors import OutputError, printable
from aeflow.privacy import shown_key
from aeflow.runtime.files import UNENCODABLE, beginning, replacing
from aeflow.scoring.studies import Study

COLUMNS = ("study", "patient", "label", "images", "refused", "score", "p_value", "verdict", "rows")


def study_table_of(scores: Path) -> Path:
    """Return the path of the studies beside a table of scores: ``scores.csv`` -> ``scores.studies.csv``."""
    return scores.with_name(f"{scores.stem}.studies.csv")


def write_studies(
    studies: Sequence[Study], path: Path, row_of: Callable[[Study], dict[str, Any]] | None = None
) -> None:
    """Write one line per study, by ``study_row`` unless another is given."""
    with replacing(path) as file:
        write_study_rows(map(row_of or study_row, studies), file)


def write_study_rows(rows: Iterable[dict[str, Any]], file: BinaryIO) -> None:
    """Write rows of the table, one by one."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors=UNENCODABLE, newline="")
    lines = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    try:
        lines.writeheader()
        lines.writerows(rows)
    finally:
        text.detach()  # flushes it, and leaves the file open


def check_studies(path: Path) -> None:
    """Raise OutputError if a file is something else than a table of studies."""
    if path.is_file() and not beginning(path).startswith(",".join(COLUMNS).encode()):
        raise OutputError(path, "is there already, and is no table of studies", "move it away, or name another table")


def remove_studies(path: Path) -> None:
    """Delete a table of studies, if there is one; raises OutputError if the file is something else."""
    check_studies(path)
    path.unlink(missing_ok=True)


def study_row(study: Study) -> dict[str, Any]:
    """Return a study as a line; keys are pseudonyms unless names were asked for."""
    keys = {"study": printable(shown_key(study.study)), "patient": printable(shown_key(study.patient))}
    return row_as_keyed(study) | keys


def row_as_keyed(study: Study) -> dict[str, Any]:
    """Return a study as a line, with the keys as they are: those of a table of scores may be told already."""
    return {name: getattr(study, name) for name in COLUMNS} | {"rows": " ".join(map(str, study.rows))}
