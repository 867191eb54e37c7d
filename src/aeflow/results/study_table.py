"""Table of studies, ``scores.studies.csv``: one line per study."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aeflow.privacy import shown_key
from aeflow.runtime.files import UNENCODABLE
from aeflow.scoring.studies import Study

COLUMNS = ("study", "patient", "label", "images", "refused", "score", "p_value", "verdict", "rows")


def study_table_of(scores: Path) -> Path:
    """Return the path of the studies beside a table of scores: ``scores.csv`` -> ``scores.studies.csv``."""
    return scores.with_name(f"{scores.stem}.studies.csv")


def write_studies(studies: Sequence[Study], path: Path) -> None:
    """Write one line per study."""
    with path.open("w", encoding="utf-8", errors=UNENCODABLE, newline="") as file:
        lines = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        lines.writeheader()
        lines.writerows(study_row(study) for study in studies)


def study_row(study: Study) -> dict[str, Any]:
    """Return a study as a line; keys are pseudonyms unless names were asked for."""
    values = {name: getattr(study, name) for name in COLUMNS}
    keys = {"study": shown_key(study.study), "patient": shown_key(study.patient)}
    return values | keys | {"rows": " ".join(map(str, study.rows))}
