"""Normal images of another source: how far they are from the train normals, why, what that costs, and the remedy.

    python benchmarks/shift.py --data FOLDER/chest_xray_224 --run RUN [--other DATA RUN]

RUN is a trained model of the data set; its held-out train normals are laid beside the test normals.

- *separable*: how well the two groups are told apart by what (cross-validated logistic regression).
- *matched*: a trait is taken from one group to the other, by one change for all images, and the shift measured again.
- *places*: where in the image the anomaly map is higher than it is for held-out train normals.
- *threshold*: what is promised, and what comes.
- *remedy*: a part of the test normals recalibrates (``aeflow.recalibrate.refit``), the rest, of other patients, is
  measured, over many draws. Three rules are compared, and chosen by held-out train normals alone, as they are and
  captured anew (``data.augment.recapture``): the section *choice*, for the data set of --other, too.

No abnormal image and no test image has a part in that choice. Writes benchmarks/results/shift.json, and pictures to
docs/images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import shift_plots
from aeflow.audit.file_traits import traits
from aeflow.audit.shortcuts import attributes_of, by_split
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import PLAIN, SIDE
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out
from aeflow.deploy.open_model import open_model
from aeflow.metrics.image import auroc
from aeflow.metrics.intervals import wilson
from aeflow.reporting.style import save_png
from aeflow.runtime.process import prepare
from aeflow.scoring.scorer import Scorer
from quality import machine
from shift_groups import BATCH, Floats, Group, greys, of_images, of_records
from shift_remedy import choice, remedy
from shift_traits import Greys, centre, histograms, rim, separable, spectra, towards

REFERENCE = 400  # train normals that the model was fitted on, whose average traits are matched
CELL, RIM = 16, 2  # pixels of a cell, and cells of the rim
TOP = 0.05  # share of the cells that are averaged
HIGH = 0.95  # quantile of held-out normals' cells from which one counts as high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--other", type=Path, nargs=2, metavar=("DATA", "RUN"), help="choose the rule on it, too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    prepare()
    results, scores = measure(options.data, options.run)
    if options.other:
        data, run = options.other
        scorer = open_model(run)
        train = read_records(data, "train")
        held = hold_out(of_label(train, 0), scorer.settings.held_out, scorer.settings.seed)[1]
        results["choice"][data.name] = choice(scorer, of_records(scorer, held))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "shift.json").write_text(json.dumps(results, indent=1) + "\n")
    options.images.mkdir(parents=True, exist_ok=True)
    for name, figure in shift_plots.figures(results, scores).items():
        save_png(figure, options.images / f"shift_{name}.png")


def measure(data: Path, run: Path) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Everything that is kept in shift.json, and the scores of the three groups."""
    scorer = open_model(run)
    settings, calibration = scorer.settings, scorer.calibration
    train, test = read_records(data, "train"), read_records(data, "test")
    kept, held = hold_out(of_label(train, 0), settings.held_out, settings.seed)
    records = {"held_out": held, "normal": of_label(test, 0), "abnormal": of_label(test, 1)}
    groups = {name: of_records(scorer, chosen) for name, chosen in records.items()}
    scores = {name: group.scores(calibration) for name, group in groups.items()}
    reference = greys(evenly(kept, REFERENCE), settings.image_size)
    results = {
        "machine": machine(),
        "set": data.name,
        "n": {name: len(group) for name, group in groups.items()},
        "patients": {name: len(set(group.patients)) for name, group in groups.items()},
        "precision": scorer.backend.precision,
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


def threshold(scores: dict[str, Floats], calibration: Calibration, wanted: float) -> dict[str, Any]:
    """What the threshold promises, and what comes; each rate with Wilson's interval."""
    rates = {name: rate(values > calibration.threshold) for name, values in scores.items()}
    both = np.concatenate([scores["normal"], scores["abnormal"]])
    labels = np.arange(len(both)) >= len(scores["normal"])
    return {"wanted": wanted, **rates, "auroc": auroc(both, labels), **moved(scores["normal"], scores["held_out"])}


def rate(flags: NDArray[np.bool_]) -> dict[str, float]:
    low, high = wilson(int(flags.sum()), len(flags))
    return {"value": float(flags.mean()), "low": low, "high": high}


def moved(values: Floats, held_out: Floats) -> dict[str, float]:
    """How far scores lie from the held-out ones: mean in their standard deviations, and the ratio of the spreads."""
    spread = float(held_out.std(ddof=1))
    return {"shift": float(values.mean() - held_out.mean()) / spread, "spread": float(values.std(ddof=1)) / spread}


def told_apart(scorer: Scorer, groups: dict[str, Group]) -> dict[str, Any]:
    """How well each kind of number tells held-out train normals from test normals."""
    a, b = groups["held_out"], groups["normal"]
    patients = [f"train {one}" for one in a.patients] + [f"test {one}" for one in b.patients]
    seen = {
        "encoder features": [one.features for one in (a, b)],
        "features of the centre": [of_images(scorer, centre(one.grey), one.patients).features for one in (a, b)],
        "features of the rim": [of_images(scorer, rim(one.grey), one.patients).features for one in (a, b)],
        "layout (16 x 16 pixels)": [one.traits[:, len(PLAIN) : len(PLAIN) + SIDE * SIDE] for one in (a, b)],
        "power spectrum": [spectra(one.grey) for one in (a, b)],
        "histogram": [histograms(one.grey) for one in (a, b)],
        "brightness, contrast, sharpness": [one.traits[:, : len(PLAIN)] for one in (a, b)],
        "raw measures of the score": [
            np.column_stack([one.flow.reshape(len(one), -1), one.reconstruction]) for one in (a, b)
        ],
    }
    return {name: separable(*pair, patients) for name, pair in seen.items()}


def attributes(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """The AUROC of single facts of the files, as `aeflow audit` measures it; those alike in all files are left out."""
    found = [traits(record.path) for record in records]
    values = attributes_of([one.numbers for one in found], [one.names for one in found], records)
    return {one.attribute: {"auroc": one.auroc, "low": one.low, "high": one.high} for one in by_split(values, records)}


def matched(scorer: Scorer, groups: dict[str, Group], reference: Greys) -> dict[str, Any]:
    """The shift left once test normals have a trait of train normals, and that of held-out ones with the test's."""
    calibration = scorer.calibration
    held, fresh = groups["held_out"], groups["normal"]
    base = held.scores(calibration)

    def row(of: Group) -> dict[str, float]:
        values = of.scores(calibration)
        return {**moved(values, base), "false_positive_rate": float((values > calibration.threshold).mean())}

    rows = {"as it is": {"to_train": row(fresh), "to_test": row(held)}}
    there, back = towards(fresh.grey, reference), towards(reference, fresh.grey)
    for name in there:
        a = of_images(scorer, there[name](fresh.grey), fresh.patients)
        b = of_images(scorer, back[name](held.grey), held.patients)
        rows[name] = {"to_train": row(a), "to_test": row(b)}
    return rows


def places(scorer: Scorer, groups: dict[str, Group]) -> dict[str, Any]:
    """The anomaly map in cells of ``CELL`` pixels: mean excess of test normals in standard deviations, and what the rim
    (two cells wide) and the inside have of it, each scored by the mean of its highest cells, without the other."""
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
    """The anomaly map (n, h, w), averaged over cells."""
    found = []
    for start in range(0, len(grey), BATCH):
        x = np.ascontiguousarray(np.repeat(grey[start : start + BATCH, None], 3, axis=1))
        m = scorer.backend.run(x, maps=True).maps["anomaly"].astype(np.float64)
        side = m.shape[1] // CELL
        m = m[:, : side * CELL, : side * CELL].reshape(len(m), side, CELL, side, CELL)
        found.append(m.mean(axis=(2, 4)))
    return np.concatenate(found)


if __name__ == "__main__":
    main()
