"""Thresholds from a few local normals: the rates that each rule reaches, over many draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import norm, t

from aeflow._types import Floats
from aeflow.calibration.calibration import Calibration
from aeflow.data.augment import recapture
from aeflow.scoring.scorer import Scorer
from aeflow.training.recalibrate import refit
from benchmarks.shift.groups import Group, Raw, measure_images

DRAWS = 200
SIZES = (5, 10, 20, 50, 100)
CHOSEN_AT = (20, 50)


def remedy(scorer: Scorer, groups: dict[str, Group]) -> dict[str, Any]:
    """Return false positive rate and sensitivity at the threshold of n local normals, over draws, by rule and n."""
    fresh, abnormal = groups["normal"], groups["abnormal"]
    rows = draws(scorer, fresh, groups["held_out"], SIZES, abnormal)
    return {rule: {str(n): summary(found) for n, found in by_size.items()} for rule, by_size in rows.items()}


def choice(scorer: Scorer, held: Group) -> dict[str, Any]:
    """Compare the rules on held-out train normals, as they are and captured again by another machine each."""
    views = np.stack([recapture(np.stack([x] * 3), f"shift/{i}")[0] for i, x in enumerate(held.grey)])
    local = {"as they are": held, "captured anew": measure_images(scorer, views, held.patients)}
    return {
        name: {
            rule: {str(n): summary(found) for n, found in by_size.items()}
            for rule, by_size in draws(scorer, group, held, CHOSEN_AT).items()
        }
        for name, group in local.items()
    }


def draws(
    scorer: Scorer, local: Group, held: Group, sizes: Sequence[int], abnormal: Group | None = None
) -> dict[str, dict[int, list[tuple[float, ...]]]]:
    """Return the rates of each draw by rule and size: false positives, and sensitivity if there are abnormal images.

    Whole patients are drawn until there are n images, and images of the others measured.
    """
    rows: dict[str, dict[int, list[tuple[float, ...]]]] = {}
    patients = np.array(local.patients)
    shape = np.array(refit(scorer.calibration, scorer.settings, *held.raw(), scorer.calibration.maps).scores)
    for n in sizes:
        rng = np.random.default_rng(n)
        for _ in range(DRAWS):
            place = dict(zip(rng.permutation(np.unique(patients)).tolist(), range(len(patients)), strict=False))
            order = rng.permutation(len(local))
            drawn = sorted(order, key=lambda i: place[patients[i]])[:n]
            rest = ~np.isin(patients, patients[drawn])
            for rule, calibration in rules(scorer, local.raw(drawn), shape):
                called = [local.scores(calibration)[rest] > calibration.threshold]
                called += [abnormal.scores(calibration) > calibration.threshold] if abnormal else []
                rates = tuple(float(one.mean()) for one in called)
                rows.setdefault(rule, {}).setdefault(n, []).append(rates)
    return rows


def rules(scorer: Scorer, raw: Raw, old: Floats) -> Iterator[tuple[str, Calibration]]:
    """Yield calibrations on the same local normals; ``old`` are held-out scores, rising.

    ``rank`` is what is built in. ``shape`` keeps the shape of the held-out scores and gives it the local mean and
    spread; ``shape, wider`` widens it by the uncertainty of the mean and spread of n Gaussian scores.
    """
    rate_ = scorer.settings.false_positive_rate
    new = refit(scorer.calibration, scorer.settings, *raw, scorer.calibration.maps)
    yield "rank", new
    local, n = np.array(new.scores), len(new.scores)
    rank = min(len(old), int(np.ceil((len(old) + 1) * (1 - rate_)))) - 1
    reach = (old[rank] - old.mean()) / old.std(ddof=1)
    wider = t.ppf(1 - rate_, n - 1) * np.sqrt(1 + 1 / n) / norm.ppf(1 - rate_)
    for name, factor in (("shape", 1.0), ("shape, wider", wider)):
        yield name, replace(new, threshold=float(local.mean() + factor * reach * local.std(ddof=1)))


def summary(found: Sequence[tuple[float, ...]]) -> dict[str, dict[str, float]]:
    """Return mean, spread and the middle nine tenths over draws."""
    columns = zip(("false_positive_rate", "sensitivity"), zip(*found, strict=True), strict=False)
    return {
        name: {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)),
            "low": float(np.quantile(values, 0.05)),
            "high": float(np.quantile(values, 0.95)),
        }
        for name, values in columns
    }
