"""Measures of the calibration study: models, groups of images, and the figures of each."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

import aeflow
from aeflow._types import Floats
from aeflow.calibration.calibration import Calibration
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import hold_out
from aeflow.deploy.open_model import open_model
from aeflow.evaluation.evaluate import Threshold
from aeflow.metrics.image import image_metrics
from aeflow.metrics.intervals import grouped_wilson
from aeflow.scoring.scorer import Scorer
from benchmarks.calibration.reliability import at_prevalence, calibration_error, net_benefit, reliability
from benchmarks.common import CHEST, SETS, machine_line
from benchmarks.inputs import labels_of, scores_of

FRESH = 0.15  # share of the train normals that no model sees
LABELS = (10, 100)
LUNGS = {"region": "lungs", "looks_for": "diffuse"}  # what a user says of pneumonias
SHARES = (0.05, 0.2)  # of abnormal images, beside the test split's own
DRAWS = 200  # test splits of such a share
LEVELS = np.linspace(0.01, 1, 100)  # of p-values
AT = np.linspace(0.01, 0.95, 95)  # threshold probabilities


@dataclass(frozen=True, slots=True)
class Scored:
    """Images with a model's scores and probabilities."""

    records: list[Record]
    values: Floats
    p_values: Floats
    abnormal: Floats | None  # p_abnormal, if the model has classes

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the labels, (N,)."""
        return np.array(labels_of(self.records))

    @property
    def patients(self) -> list[str]:
        """Return the patient of each image."""
        return [record.patient for record in self.records]


def measure(folder: Path, runs: Path) -> dict[str, Any]:
    """Return everything that is kept in calibration.json."""
    results: dict[str, Any] = {"machine": machine_line(), "p_values": {}, "posterior": {}, "kinds": {}}
    called: dict[str, Any] = {}
    for name in SETS:
        with set_aside(folder / name) as data:
            test = read_records(data, "test")
            models: dict[str, dict[str, Any]] = {"default": {}}
            if name == CHEST:
                models |= {"lungs": LUNGS} | {f"gmm-{k}": LUNGS | {"labels": k} for k in LABELS}
            for kind, changes in models.items():
                scorer = model(data, runs / f"{name}-{kind}", changes)
                found = scored(scorer, test)
                if "labels" not in changes:
                    fresh = scored(scorer, read_records(data, "val"))
                    results["p_values"].setdefault(name, {})[kind] = p_values(scorer.calibration, fresh, found)
                if name == CHEST:
                    results["kinds"][kind] = kinds(scorer, found)
                    called[kind] = (scorer, found)
                    if found.abnormal is not None and scorer.calibration.posterior is not None:
                        assumed = scorer.calibration.posterior.abnormal_share
                        results["posterior"][kind] = posterior(found, found.abnormal, assumed)
    results["decision"] = decision(called)
    return results


@contextmanager
def set_aside(source: Path) -> Iterator[Path]:
    """Yield a data folder of the same images, in which some train normals are the split `val`."""
    records = read_records(source)
    normals = of_label([record for record in records if record.split == "train"], 0)
    _, fresh = hold_out(normals, FRESH, seed=1)  # not the training's seed, whose held-out images they would be
    apart = {record.path for record in fresh}
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        (data / "images").symlink_to(source.resolve())
        with (data / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "split", "label", "patient", "kind"])
            for record in records:
                split = "val" if record.path in apart else record.split
                label = "" if record.label is None else record.label
                path = Path("images") / record.path.relative_to(source)
                writer.writerow([path.as_posix(), split, label, record.patient, record.kind or ""])
        yield data


def model(data: Path, run: Path, changes: dict[str, Any]) -> Scorer:
    """Return the model of a run folder, which is trained if it is not there."""
    if not run.exists():
        aeflow.train(data, run, seed=0, **changes)
    return open_model(run, images=10_000)


def scored(scorer: Scorer, records: Sequence[Record]) -> Scored:
    """Score images."""
    results = [result for _, result in scores_of(scorer, records)]
    return Scored(
        list(records),
        np.array([one.value for one in results]),
        np.array([one.p_value for one in results]),
        np.array([1 - one.posterior["normal"] for one in results]) if results[0].posterior else None,
    )


def p_values(calibration: Calibration, fresh: Scored, test: Scored) -> dict[str, Any]:
    """Return how often p-values of normals reach each level; uniform ones do so as often as the level says."""
    normal = test.labels == 0
    groups = {
        "fresh": (fresh.values, fresh.p_values, fresh.patients),
        "test": (test.values[normal], test.p_values[normal], [r.patient for r in test.records if r.label == 0]),
    }
    found: dict[str, Any] = {"held_out": len(calibration.scores), "levels": LEVELS.tolist()}
    for name, (values, p, patients) in groups.items():
        flagged = values > calibration.threshold
        low, high = grouped_wilson(flagged, patients)
        test_of = ks_2samp(values, calibration.scores)
        found[name] = {
            "n": len(p),
            "patients": len(set(patients)),
            "reached": [float((p <= level).mean()) for level in LEVELS],
            "false_positive_rate": {"value": float(flagged.mean()), "low": low, "high": high},
            "ks": {"distance": float(test_of.statistic), "p": float(test_of.pvalue)},
        }
    return found


def posterior(test: Scored, p: Floats, assumed: float) -> dict[str, Any]:
    """Return the calibration error of p_abnormal as it comes, for the test split's abnormal share, and for others."""
    y, real = test.labels, float(test.labels.mean())
    found: dict[str, Any] = {"assumed": assumed, "real": real, "mean": float(p.mean()), "shares": {}}
    for name, said in (("as it comes", p), ("right share", at_prevalence(p, assumed, real))):
        value, low, high = calibration_error(said, y, test.patients)
        curve = reliability(said, y)
        found[name] = {
            "error": {"value": value, "low": low, "high": high},
            "mean": float(said.mean()),
            "curve": {part: getattr(curve, part).tolist() for part in ("predicted", "found", "counts")},
        }
    rng = np.random.default_rng(0)
    normal, abnormal = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    for share in SHARES:
        count = round(len(normal) * share / (1 - share))
        rows = [np.r_[normal, rng.choice(abnormal, count, replace=False)] for _ in range(DRAWS)]
        right = at_prevalence(p, assumed, share)
        found["shares"][f"{share:g}"] = {
            "abnormal_images": count,
            **{
                name: {
                    "error": float(np.mean([reliability(said[i], y[i]).error for i in rows])),
                    "mean": float(np.mean([said[i].mean() for i in rows])),
                }
                for name, said in (("as it comes", p), ("right share", right))
            },
        }
    return found


def decision(models: dict[str, tuple[Scorer, Scored]]) -> dict[str, Any]:
    """Return the net benefit at each abnormal share: of calling all, of verdicts, and of p_abnormal for that share."""
    y = next(iter(models.values()))[1].labels
    found: dict[str, Any] = {"at": AT.tolist(), "shares": {}}
    for share in (*SHARES, float(y.mean())):
        rows = {"all called abnormal": net_benefit(np.ones_like(y), y, AT, share)}
        for name, (scorer, test) in models.items():
            rows[f"{name}, verdict"] = net_benefit(test.values > scorer.calibration.threshold, y, AT, share)
            if test.abnormal is not None and scorer.calibration.posterior is not None:
                right = at_prevalence(test.abnormal, scorer.calibration.posterior.abnormal_share, share)
                rows[f"{name}, p_abnormal"] = net_benefit(right > AT[:, None], y, AT, share)
        found["shares"][f"{share:.3g}"] = {name: values.tolist() for name, values in rows.items()}
    return found


def kinds(scorer: Scorer, test: Scored) -> dict[str, Any]:
    """Return sensitivity at the model's threshold, and AUROC against all test normals, for each kind and for all."""
    threshold = Threshold(scorer.calibration.threshold, scorer.calibration.rule)
    found = {}
    for kind in (None, *sorted({record.kind for record in test.records if record.label == 1 and record.kind})):
        rows = [i for i, record in enumerate(test.records) if record.label == 0 or kind in (None, record.kind)]
        patients = [test.patients[i] for i in rows]
        metrics = image_metrics(test.values[rows], test.labels[rows], patients, threshold)
        found[kind or "all"] = {"n": metrics["n_abnormal"], **{k: metrics[k] for k in ("sensitivity", "auroc")}}
    found["specificity"] = metrics["specificity"]
    return found
