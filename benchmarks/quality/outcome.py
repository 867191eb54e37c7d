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
from aeflow.metrics.image import image_metrics
from aeflow.metrics.pixel import PixelMetrics
from benchmarks.inputs import labels_of
from benchmarks.quality.methods import Method

RANKING = ("auroc", "average_precision", "oracle")
AT_THRESHOLD = ("f1", "accuracy", "sensitivity", "specificity")
ROWS, SCORES = "rows.json", "scores.npz"


@dataclass(slots=True)
class Outcome:
    """Scores of the test split, pixel metrics, and the time they took."""

    scores: ArrayLike | None  # (N,), None if the method has none
    held_out: ArrayLike | None = None  # scores of held-out train normals: a threshold comes from them
    pixel: dict[str, Any] | None = None  # pixel metrics of each kind of map
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
    """Return one row of the results, intervals over patients; only ``oracle`` takes a threshold from the test split."""
    found: dict[str, Any] = {**outcome.seconds, **outcome.more, "pixel": outcome.pixel}
    if outcome.scores is None:
        return found
    threshold = math.inf if outcome.held_out is None else threshold_of(outcome.held_out)
    patients = [record.patient for record in test]
    metrics = image_metrics(outcome.scores, labels_of(test), patients, Threshold(threshold, ""))
    names = RANKING if outcome.held_out is None else RANKING + AT_THRESHOLD
    return {**{name: metrics[name] for name in names}, **found}


def threshold_of(held_out: ArrayLike) -> float:
    """Return the threshold that a calibration takes from the scores of held-out normals."""
    return conformal_threshold(np.asarray(held_out, np.float64), make_settings().false_positive_rate)[1]


def count_pixels(metrics: PixelMetrics, maps: ArrayLike, records: Sequence[Record]) -> None:
    """Count the maps of those images that have a mask."""
    for one, record in zip(np.asarray(maps), records, strict=True):
        if (mask := mask_of(record, one.shape[-1])) is not None:
            metrics.update(one, mask, record.patient)
