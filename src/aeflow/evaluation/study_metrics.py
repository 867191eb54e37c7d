"""Metrics of studies of several slices, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aeflow.metrics.intervals import delong, wilson
from aeflow.results.study_table import study_table_of, write_studies
from aeflow.scoring.studies import Study


def of_studies(studies: Sequence[Study], out: Path) -> dict[str, Any] | None:
    """Return the AUROC of the studies' scores, and rates of their verdicts; None if there are no studies.

    Writes scores.studies.csv. A metric that is not defined for these studies is null.
    """
    if not studies:
        return None
    write_studies(studies, study_table_of(out / "scores.csv"))
    known = [(study, study.label) for study in studies if study.label is not None]
    labels = [label for _, label in known]
    counts = {label: labels.count(label) for label in (0, 1)}
    area = None
    if min(counts.values()) > 1:
        value, low, high = delong([study.score for study, _ in known], labels)
        area = {"value": value, "low": low, "high": high, "interval": "delong"}

    def rate(label: int, verdict: str) -> dict[str, Any] | None:
        """Return the share of studies of a class with the right verdict, with its interval."""
        if not counts[label]:
            return None
        right = sum(study.verdict == verdict for study, truth in known if truth == label)
        low, high = wilson(right, counts[label])
        return {"value": right / counts[label], "low": low, "high": high, "interval": "wilson"}

    return {
        "n_normal": counts[0],
        "n_abnormal": counts[1],
        "auroc": area,
        "sensitivity": rate(1, "abnormal"),
        "specificity": rate(0, "normal"),
    }
