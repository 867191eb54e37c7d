"""The table of studies, ``scores.studies.csv``: one line a study."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aeflow.privacy import shown_patient
from aeflow.scoring.studies import Study

COLUMNS = ("study", "patient", "label", "images", "refused", "score", "p_value", "verdict", "rows")


def study_table_of(scores: Path) -> Path:
    """Where the studies of a table of scores are written: ``scores.csv`` -> ``scores.studies.csv``."""
    return scores.with_name(f"{scores.stem}.studies.csv")


def write_studies(studies: Sequence[Study], path: Path) -> None:
    """One line a study."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        lines.writeheader()
        lines.writerows(study_row(study) for study in studies)


def study_row(study: Study) -> dict[str, Any]:
    """A study as a line; keys as pseudonyms unless names were asked for."""
    values = {name: getattr(study, name) for name in COLUMNS}
    keys = {"study": shown_patient(study.study), "patient": shown_patient(study.patient)}
    return values | keys | {"rows": " ".join(map(str, study.rows))}
