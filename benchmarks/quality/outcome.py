"""Outcome of a method on the test split, its figures, and the files in which a run leaves them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aeflow.calibration.calibration import conformal_threshold
from aeflow.config import make_settings
from aeflow.data.loader import mask_of
from aeflow.data.records import Record
from aeflow.evaluation.evaluate import Threshold
from aeflow.metrics.image import image_metrics, roc_curve
from aeflow.metrics.pixel import PixelMetrics
from benchmarks.inputs import labels_of
from benchmarks.quality.methods import Method

RANKING = ("auroc", "average_precision", "oracle")
AT_THRESHOLD = ("f1", "accuracy", "sensitivity", "specificity")
FALSE_ALARMS = 0.1  # share of the test normals above the threshold at which methods of any calibration compare
ROWS, SCORES = "rows.json", "scores.npz"


@dataclass(slots=True)
class Outcome:
    """Scores of the test split, pixel metrics, and the time they took."""

    scores: ArrayLike | None  # (N,), None if the method has none
    held_out: ArrayLike | None = None  # scores of held-out train normals: a threshold comes from them
    pixel: dict[str, Any] | None = None  # pixel metrics of each kind of map
    localisation: dict[str, Any] | None = None  # of the anomaly map, as metrics.json has it
    seconds: dict[str, float] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


def write_outcomes(out: Path, method: Method, test: Sequence[Record], outcomes: Mapping[str, Outcome]) -> None:
    """Write ``rows.json``, figures by row, and ``scores.npz``, scores by row in the order of ``test``."""
    out.mkdir(parents=True, exist_ok=True)
    rows = {method.name + name: figures(outcome, test) for name, outcome in outcomes.items()}
    scores = {method.name + name: outcome.scores for name, outcome in outcomes.items() if outcome.scores is not None}
    arrays: dict[str, Any] = {name: np.asarray(of_row, np.float64) for name, of_row in scores.items()}
    np.savez(out / SCORES, **arrays)
    (out / ROWS).write_text(json.dumps(rows))


def figures(outcome: Outcome, test: Sequence[Record]) -> dict[str, Any]:
    """Return one row of the results, intervals over patients.

    ``false_alarms`` and all of AT_THRESHOLD are at the threshold from held-out train normals. Only ``oracle`` and
    ``sensitivity_at_10``, at a true 10 % of false alarms, take a threshold from the test split.
    """
    found: dict[str, Any] = {**outcome.seconds, **outcome.more, "pixel": outcome.pixel}
    found["localisation"] = outcome.localisation
    if outcome.scores is None:
        return found
    threshold = math.inf if outcome.held_out is None else threshold_of(outcome.held_out)
    patients = [record.patient for record in test]
    metrics = image_metrics(outcome.scores, labels_of(test), patients, Threshold(threshold, ""))
    names = RANKING if outcome.held_out is None else RANKING + AT_THRESHOLD
    compared = {"sensitivity_at_10": {"value": sensitivity_at(outcome.scores, labels_of(test), FALSE_ALARMS)}}
    if outcome.held_out is not None:
        compared["false_alarms"] = false_alarms(metrics["specificity"])
    return {**{name: metrics[name] for name in names}, **compared, **found}


def false_alarms(specificity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of normals that are called abnormal, with the interval of the specificity."""
    return {"value": 1 - specificity["value"], "low": 1 - specificity["high"], "high": 1 - specificity["low"]}


def sensitivity_at(scores: ArrayLike, labels: Sequence[int], share: float) -> float:
    """Return the greatest sensitivity at which at most a share of these normals is called abnormal."""
    false, true, _ = roc_curve(scores, labels)
    return float(true[false <= share].max())


def threshold_of(held_out: ArrayLike) -> float:
    """Return the threshold that a calibration takes from the scores of held-out normals."""
    return conformal_threshold(np.asarray(held_out, np.float64), make_settings().false_positive_rate)[1]


def count_pixels(metrics: PixelMetrics, maps: ArrayLike, records: Sequence[Record]) -> None:
    """Count the maps of those images that have a mask."""
    for one, record in zip(np.asarray(maps), records, strict=True):
        if (mask := mask_of(record, one.shape[-1])) is not None:
            metrics.update(one, mask, record.patient)
