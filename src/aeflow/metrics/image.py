"""Image-level metrics from raw scores; an image is called abnormal if its score is above the threshold.

Everything comes from two counts over the distinct scores in descending order: true and false positives at "score or
more". They may be weighted, by many weightings at once, which makes the bootstrap of thousands of images fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aeflow._types import Floats
from aeflow.errors import DataError, count
from aeflow.metrics.intervals import Statistic, delong, grouped_bootstrap, grouped_wilson, wilson

Bools = NDArray[np.bool_]
Metric = dict[str, Any]  # {"value", "low", "high", "interval"}
# (scores, labels, patients, threshold, seed of a bootstrap) -> metric, None if it is not defined
MetricAt = Callable[[Floats, Bools, Sequence[str], float, int], Metric | None]


class Threshold(Protocol):
    """Threshold and its origin, as `metrics.json` holds it."""

    @property
    def value(self) -> float: ...
    @property
    def rule(self) -> str: ...
    @property
    def source(self) -> str: ...


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the area under the ROC curve, P(abnormal > normal) + P(tie) / 2; DataError if a class is missing.

    >>> auroc([1, 2, 3, 4], [0, 1, 0, 1])
    0.75
    """
    x, y = _both_classes(scores, labels)
    return float(_areas(x, y, _once(x))[0, 0])


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the average precision Σ (R_k - R_{k-1}) P_k over the distinct scores; DataError if a class is missing."""
    x, y = _both_classes(scores, labels)
    return float(_areas(x, y, _once(x))[0, 1])


def roc_curve(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return false and true positive rate and threshold ("score or more"), from (0, 0, inf) on; needs both classes."""
    x, y = _both_classes(scores, labels)
    true, false = (found[0] for found in _counts(x, y, _once(x)))
    thresholds = np.unique(x)[::-1]
    return np.r_[0, false / false[-1]], np.r_[0, true / true[-1]], np.r_[np.inf, thresholds]


def precision_recall_curve(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall, threshold ("score or more"), recall ascending, no point added; needs both classes."""
    x, y = _both_classes(scores, labels)
    true, false = (found[0] for found in _counts(x, y, _once(x)))
    return true / (true + false), true / true[-1], np.unique(x)[::-1]


def roc_band(
    scores: ArrayLike, labels: ArrayLike, patients: Sequence[str], at: Floats, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the pointwise 95 % band (low, high) of the true positive rate at the false positive rates ``at``."""

    def rates(x: Floats, y: Bools, weights: Floats) -> Floats:
        true, false = _counts(x, y, weights)
        rows = zip(_ratio(false, false[:, -1:]), _ratio(true, true[:, -1:]), strict=True)
        return np.stack([np.interp(at, np.r_[0, fpr], np.r_[0, tpr]) for fpr, tpr in rows])

    return grouped_bootstrap(rates, *_both_classes(scores, labels), patients, seed=seed)


def precision_recall_band(
    scores: ArrayLike, labels: ArrayLike, patients: Sequence[str], at: Floats, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the pointwise 95 % band (low, high) of the precision at which the recall first reaches ``at``."""

    def precisions(x: Floats, y: Bools, weights: Floats) -> Floats:
        true, false = _counts(x, y, weights)
        first = np.stack([np.searchsorted(row, at * row[-1] - 1e-9) for row in true])
        precision = np.take_along_axis(_ratio(true, true + false), first, 1)
        return np.where(true[:, -1:] > 0, precision, np.nan)

    return grouped_bootstrap(precisions, *_both_classes(scores, labels), patients, seed=seed)


def confusion(scores: ArrayLike, labels: ArrayLike, threshold: float) -> dict[str, int]:
    """Count images by truth and verdict: true_positive, false_positive, true_negative, false_negative.

    >>> confusion([1, 2, 3, 4], [0, 1, 0, 1], threshold=2.5)
    {'true_positive': 1, 'false_positive': 1, 'true_negative': 1, 'false_negative': 1}
    """
    x, y = _checked(scores, labels)
    called = x > threshold
    return {
        "true_positive": int((called & y).sum()),
        "false_positive": int((called & ~y).sum()),
        "true_negative": int((~called & ~y).sum()),
        "false_negative": int((~called & y).sum()),
    }


def oracle_threshold(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the threshold with the best F1 on these very images, the highest of equals: a bound, never a result."""
    precision, recall, thresholds = precision_recall_curve(scores, labels)
    best = np.argmax(2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny))
    return float(np.nextafter(thresholds[best], -np.inf))  # "this score or more" as "more than"


def image_metrics(
    scores: ArrayLike, labels: ArrayLike, patients: Sequence[str], threshold: Threshold, seed: int = 0
) -> dict[str, Any]:
    """Return the image-level part of `metrics.json`: each metric with value, low, high and the interval's name.

    AUROC has DeLong's interval if every patient has one image; other areas and F1 have a bootstrap over patients, rates
    have Wilson's, corrected for several images a patient. A metric that is not defined is null, and "notes" explains
    it. Raises DataError for scores that are not finite, labels other than 0 and 1, and lengths that differ.
    """
    x, y = _checked(scores, labels)
    if len(patients) != len(x):
        raise DataError("evaluation", f"{len(x)} scores and {len(patients)} patients", "name one patient an image")
    both = bool(y.any() and not y.all())
    best = oracle_threshold(x, y) if both else None
    control = _at(x, y, patients, -np.inf, seed)
    return {
        "n_normal": int((~y).sum()),
        "n_abnormal": int(y.sum()),
        "n_patients": len(set(patients)),
        **(_ranking(x, y, patients, seed) if both else dict.fromkeys(("auroc", "average_precision"))),
        **_at(x, y, patients, threshold.value, seed),
        "confusion": confusion(x, y, threshold.value),
        "threshold": {"value": float(threshold.value), "rule": threshold.rule, "from": threshold.source},
        "oracle": {"threshold": best, **_at(x, y, patients, best, seed)} if best is not None else None,
        "all_abnormal": {name: control[name] for name in ("f1", "accuracy")},
        "notes": _notes(y, patients),
    }


def auroc_metric(scores: ArrayLike, labels: ArrayLike, patients: Sequence[str], seed: int = 0) -> Metric | None:
    """Return the AUROC with its interval, as `image_metrics` has it; None if a class is missing."""
    x, y = _checked(scores, labels)
    return _ranking(x, y, patients, seed)["auroc"] if y.any() and not y.all() else None


def _ranking(x: Floats, y: Bools, patients: Sequence[str], seed: int) -> dict[str, Metric]:
    """Return AUROC and average precision, which need no threshold."""
    area, precision = _bootstrapped(_areas, x, y, patients, seed)
    if len(set(patients)) == len(x) and _smaller(y, patients) > 1:
        value, low, high = delong(x, y)
        area = {"value": value, "low": low, "high": high, "interval": "delong"}
    return {"auroc": area, "average_precision": precision}


def _at(x: Floats, y: Bools, patients: Sequence[str], threshold: float, seed: int) -> dict[str, Metric | None]:
    """Return all metrics at a threshold."""
    return {name: metric(x, y, patients, threshold, seed) for name, metric in AT_THRESHOLD.items()}


def _f1(x: Floats, y: Bools, patients: Sequence[str], threshold: float, seed: int) -> Metric | None:
    """Return F1; None if a class is missing."""

    def f1(x: Floats, y: Bools, weights: Floats) -> Floats:
        called = x > threshold
        true = weights @ (called & y)
        wrong = weights @ (called != y)
        return _ratio(2 * true, 2 * true + wrong)[:, None]

    return _bootstrapped(f1, x, y, patients, seed)[0] if y.any() and not y.all() else None


def _share_right(among: Callable[[Bools], Bools]) -> MetricAt:
    """Return a metric: the share of right verdicts among some images, chosen by their labels."""

    def rate(x: Floats, y: Bools, patients: Sequence[str], threshold: float, seed: int) -> Metric | None:
        chosen = among(y)
        if not chosen.any():
            return None
        right = ((x > threshold) == y)[chosen]
        low, high = grouped_wilson(right, [patient for patient, one in zip(patients, chosen, strict=True) if one])
        return {"value": float(right.mean()), "low": low, "high": high, "interval": "wilson"}

    return rate


# A new metric at a threshold is one function and one line here; terminal.py and report.py of evaluation show it.
AT_THRESHOLD: dict[str, MetricAt] = {
    "f1": _f1,
    "accuracy": _share_right(np.ones_like),
    "sensitivity": _share_right(lambda y: y),
    "specificity": _share_right(np.logical_not),
}


def _bootstrapped(statistic: Statistic, x: Floats, y: Bools, patients: Sequence[str], seed: int) -> list[Metric]:
    """Return each value of a statistic with its interval over patients.

    If no resample differs (perfect separation) the bootstrap sees no uncertainty: Wilson's interval over the patients
    of the smaller class takes its place. With a single patient in a class there is no interval.
    """
    values, smaller = statistic(x, y, _once(x))[0].tolist(), _smaller(y, patients)
    if smaller == 1:
        return [{"value": value, "low": None, "high": None, "interval": None} for value in values]
    metrics = []
    for value, low, high in zip(values, *grouped_bootstrap(statistic, x, y, patients, seed=seed), strict=True):
        if low < high:
            metrics.append({"value": value, "low": float(low), "high": float(high), "interval": "patient bootstrap"})
        else:
            low, high = wilson(value * smaller, smaller)
            metrics.append({"value": value, "low": low, "high": high, "interval": "wilson"})
    return metrics


def _smaller(y: Bools, patients: Sequence[str]) -> int:
    """Return the number of patients in the class that has fewer."""
    return min(len({p for p, label in zip(patients, y, strict=True) if label == side}) for side in (False, True))


def _notes(y: Bools, patients: Sequence[str]) -> list[str]:
    """Return notes that explain missing metrics and intervals."""
    missing = [name for name, there in (("normal", (~y).any()), ("abnormal", y.any())) if not there]
    if missing:
        return [f"No {' and no '.join(missing)} images: the metrics that need them are not defined."]
    if _smaller(y, patients) == 1:
        return ["A class has a single patient: the areas and F1 have no interval."]
    return []


def _counts(x: Floats, y: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Return true and false positives (R, K) at "score or more" for the K distinct scores, descending.

    ``weights`` are (R, N).
    """
    order = np.argsort(-x, kind="stable")
    last = np.flatnonzero(np.diff(x[order], append=np.nan) != 0)  # of each run of equal scores
    weights, positive = weights[:, order], y[order]
    return np.cumsum(weights * positive, 1)[:, last], np.cumsum(weights * ~positive, 1)[:, last]


def _areas(x: Floats, y: Bools, weights: Floats) -> Floats:
    """Return AUROC and average precision (R, 2) under weights (R, N), NaN if a class has no weight."""
    true, false = _counts(x, y, weights)
    positives, negatives = true[:, -1], false[:, -1]
    new_true, new_false = np.diff(true, axis=1, prepend=0), np.diff(false, axis=1, prepend=0)
    area = ((true - new_true / 2) * new_false).sum(1)
    precision = (new_true * true / np.maximum(true + false, 1)).sum(1)
    return np.stack([_ratio(area, positives * negatives), _ratio(precision, positives * (negatives > 0))], 1)


def _ratio(a: Floats, b: Floats) -> Floats:
    """Return a / b, NaN where b is not positive."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)


def _once(x: Floats) -> Floats:
    """Return weights (1, N) that count each image once."""
    return np.ones((1, len(x)))


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    """Return scores and labels as arrays; DataError if they do not fit."""
    x, y = np.asarray(scores, np.float64), np.asarray(labels)
    if x.shape != y.shape or x.ndim != 1:
        raise DataError("evaluation", f"scores {x.shape} and labels {y.shape}", "give each score one label")
    if not np.isfinite(x).all():
        found = f"score {int(np.flatnonzero(~np.isfinite(x))[0])} is {x[~np.isfinite(x)][0]}"
        raise DataError("evaluation", found, "leave out the image it belongs to, or repair the model")
    if not np.isin(y, (0, 1)).all():
        raise DataError("evaluation", "a label other than 0 and 1", "evaluate labelled images only")
    return x, y.astype(bool)


def _both_classes(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    """Return scores and labels as arrays; DataError if a class is missing."""
    x, y = _checked(scores, labels)
    if not y.any() or y.all():
        found = f"{int((~y).sum()):,} normal and {count(int(y.sum()), 'abnormal image')}"
        raise DataError("evaluation", found, "an area or a curve needs both classes")
    return x, y
