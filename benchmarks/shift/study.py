"""Measures of the shift: separability, traits, places, threshold, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Floats
from aeflow.audit.file_traits import traits
from aeflow.audit.shortcuts import attributes_of, by_split
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import PLAIN, SIDE
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out
from aeflow.deploy.open_model import open_model
from aeflow.metrics.image import auroc
from aeflow.metrics.intervals import wilson
from aeflow.scoring.scorer import Scorer
from benchmarks.common import machine_line
from benchmarks.shift.groups import BATCH, Group, greys, measure_images, measure_records
from benchmarks.shift.image_traits import Greys, centre, histograms, rim, separable, spectra, towards
from benchmarks.shift.remedy import choice, remedy

REFERENCE = 400  # train normals that the model was fitted on, whose average traits are matched
CELL, RIM = 16, 2  # pixels of a cell, and cells of the rim
TOP = 0.05  # share of the cells that are averaged
HIGH = 0.95  # quantile of held-out normals' cells from which one counts as high


def measure(data: Path, run: Path) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Return everything that is kept in shift.json, and the scores of the three groups."""
    scorer = open_model(run)
    settings, calibration = scorer.settings, scorer.calibration
    train, test = read_records(data, "train"), read_records(data, "test")
    kept, held = hold_out(of_label(train, 0), settings.held_out, settings.seed)
    records = {"held_out": held, "normal": of_label(test, 0), "abnormal": of_label(test, 1)}
    groups = {name: measure_records(scorer, chosen) for name, chosen in records.items()}
    scores = {name: group.scores(calibration) for name, group in groups.items()}
    reference = greys(evenly(kept, REFERENCE), settings.image_size)
    results = {
        "machine": machine_line(),
        "set": data.name,
        "n": {name: len(group) for name, group in groups.items()},
        "patients": {name: len(set(group.patients)) for name, group in groups.items()},
        "threshold": threshold(scores, calibration, settings.false_positive_rate),
        "threshold_at": calibration.threshold,
        "separable": {name: asdict(one) for name, one in told_apart(scorer, groups).items()},
        "attributes": attributes(held + records["normal"]),
        "matched": matched(scorer, groups, reference),
        "places": places(scorer, groups),
        "remedy": remedy(scorer, groups),
        "choice": {data.name: choice(scorer, groups["held_out"])},
    }
    return results, scores


def choice_on(data: Path, run: Path) -> dict[str, Any]:
    """Compare the rules on the held-out train normals of another data set and its model."""
    scorer = open_model(run)
    normals = of_label(read_records(data, "train"), 0)
    _, held = hold_out(normals, scorer.settings.held_out, scorer.settings.seed)
    return choice(scorer, measure_records(scorer, held))


def threshold(scores: dict[str, Floats], calibration: Calibration, wanted: float) -> dict[str, Any]:
    """Return the promised and the real false positive rate, and the sensitivity, with Wilson's intervals."""
    rates = {name: rate(values > calibration.threshold) for name, values in scores.items()}
    both = np.concatenate([scores["normal"], scores["abnormal"]])
    labels = np.arange(len(both)) >= len(scores["normal"])
    return {"wanted": wanted, **rates, "auroc": auroc(both, labels), **moved(scores["normal"], scores["held_out"])}


def rate(flags: NDArray[np.bool_]) -> dict[str, float]:
    """Return a rate with Wilson's interval."""
    low, high = wilson(int(flags.sum()), len(flags))
    return {"value": float(flags.mean()), "low": low, "high": high}


def moved(values: Floats, held_out: Floats) -> dict[str, float]:
    """Return the shift of the mean, in standard deviations of the held-out scores, and the ratio of spreads."""
    spread = float(held_out.std(ddof=1))
    return {"shift": float(values.mean() - held_out.mean()) / spread, "spread": float(values.std(ddof=1)) / spread}


def told_apart(scorer: Scorer, groups: dict[str, Group]) -> dict[str, Any]:
    """Measure how well each kind of number tells held-out train normals from test normals."""
    a, b = groups["held_out"], groups["normal"]
    patients = [f"train {one}" for one in a.patients] + [f"test {one}" for one in b.patients]
    seen = {
        "encoder features": [one.features for one in (a, b)],
        "features of the centre": [measure_images(scorer, centre(one.grey), one.patients).features for one in (a, b)],
        "features of the rim": [measure_images(scorer, rim(one.grey), one.patients).features for one in (a, b)],
        "layout (16 x 16 pixels)": [one.input_statistics[:, len(PLAIN) : len(PLAIN) + SIDE * SIDE] for one in (a, b)],
        "power spectrum": [spectra(one.grey) for one in (a, b)],
        "histogram": [histograms(one.grey) for one in (a, b)],
        "brightness, contrast, sharpness": [one.input_statistics[:, : len(PLAIN)] for one in (a, b)],
        "raw measures of the score": [np.column_stack(list(one.measures.values())) for one in (a, b)],
    }
    return {name: separable(first, second, patients) for name, (first, second) in seen.items()}


def attributes(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Return the AUROC of single facts of the files, as `aeflow audit` measures it; facts alike in all are left out."""
    found = [traits(record.path) for record in records]
    values = attributes_of([one.numbers for one in found], [one.names for one in found], records)
    return {one.attribute: {"auroc": one.auroc, "low": one.low, "high": one.high} for one in by_split(values, records)}


def matched(scorer: Scorer, groups: dict[str, Group], reference: Greys) -> dict[str, Any]:
    """Measure the shift of test normals given a trait of train normals, and of held-out normals given the test's."""
    calibration = scorer.calibration
    held, fresh = groups["held_out"], groups["normal"]
    base = held.scores(calibration)

    def row(of: Group) -> dict[str, float]:
        values = of.scores(calibration)
        return {**moved(values, base), "false_positive_rate": float((values > calibration.threshold).mean())}

    rows = {"as it is": {"to_train": row(fresh), "to_test": row(held)}}
    there, back = towards(fresh.grey, reference), towards(reference, fresh.grey)
    for name in there:
        a = measure_images(scorer, there[name](fresh.grey), fresh.patients)
        b = measure_images(scorer, back[name](held.grey), held.patients)
        rows[name] = {"to_train": row(a), "to_test": row(b)}
    return rows


def places(scorer: Scorer, groups: dict[str, Group]) -> dict[str, Any]:
    """Compare anomaly maps in cells of ``CELL`` pixels: mean excess of test normals in standard deviations, by place.

    The rim (two cells wide) and the inside are each scored by the mean of their highest cells, without the other.
    """
    held, fresh = (cells(scorer, groups[name].grey) for name in ("held_out", "normal"))
    side = held.shape[1]
    inside = np.zeros((side, side), bool)
    inside[RIM:-RIM, RIM:-RIM] = True
    high = np.quantile(held, HIGH)
    excess = (fresh > high).mean(axis=0) - (held > high).mean(axis=0)
    found: dict[str, Any] = {"map": ((fresh.mean(axis=0) - held.mean(axis=0)) / held.std(axis=0)).round(3).tolist()}
    for name, where in (("all", np.ones_like(inside)), ("rim", ~inside), ("inside", inside)):
        count = max(1, round(TOP * int(where.sum())))
        old, new = (np.sort(x[:, where], axis=1)[:, -count:].mean(axis=1) for x in (held, fresh))
        rank = min(len(old), int(np.ceil((len(old) + 1) * (1 - scorer.settings.false_positive_rate))))
        found[name] = {
            "cells": int(where.sum()),
            "excess": float(excess[where].sum() / excess.sum()),
            **moved(new, old),
            "false_positive_rate": float((new > np.sort(old)[rank - 1]).mean()),
        }
    return found


def cells(scorer: Scorer, grey: Greys) -> Floats:
    """Return the anomaly maps (n, h, w), averaged over cells."""
    found = []
    for start in range(0, len(grey), BATCH):
        x = np.ascontiguousarray(np.repeat(grey[start : start + BATCH, None], 3, axis=1))
        m = scorer.backend.run(x, maps=True).maps["anomaly"].astype(np.float64)
        side = m.shape[1] // CELL
        m = m[:, : side * CELL, : side * CELL].reshape(len(m), side, CELL, side, CELL)
        found.append(m.mean(axis=(2, 4)))
    return np.concatenate(found)
