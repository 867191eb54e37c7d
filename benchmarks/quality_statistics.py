"""Intervals and tests of AUROCs that are means over seeds, on the same images, and of their mean over data sets.

Everything comes from one matrix, ``wins`` (abnormal, normal): the share of seeds in which an abnormal image scores
above a normal one, ties counted half. Its mean is the mean AUROC; the means of its rows and columns are DeLong's
placements (DeLong et al. 1988), averaged over seeds. Of one seed it is ``aeflow.intervals.delong`` and
``delong_paired``.

DeLong takes images for independent. Several of one patient are not, so a bootstrap over patients stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from aeflow.metrics.intervals import Z, bounds, wilson

Floats = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Truth:
    """The labels and patients of a set's test images."""

    label: NDArray[np.int64]  # (N,)
    patient: NDArray[np.int64]  # (N,)


def wins(scores: Sequence[ArrayLike], truth: Truth) -> Floats:
    """The matrix above of the scores (N,) of each seed."""
    found = np.zeros(((truth.label == 1).sum(), (truth.label == 0).sum()))
    for one in scores:
        x = np.asarray(one, np.float64)
        abnormal, normal = x[truth.label == 1][:, None], x[truth.label == 0][None]
        found += (abnormal > normal) + 0.5 * (abnormal == normal)
    return found / len(scores)


def area(won: Floats, truth: Truth) -> dict[str, Any]:
    """The mean AUROC with DeLong's interval in the logit, and with one over patients."""
    value, variance = float(won.mean()), _variance(won)
    if variance == 0:
        low, high = wilson(value * min(won.shape), min(won.shape))
    else:
        half = Z * np.sqrt(variance) / (value * (1 - value))
        low, high = float(expit(logit(value) - half)), float(expit(logit(value) + half))
    return {"value": value, "low": low, "high": high, "patients": over_patients(won, truth)}


def difference(a: Floats, b: Floats, truth: Truth) -> dict[str, Any]:
    """AUROC of a minus that of b on the same images: DeLong's interval and two-sided p, and one over patients."""
    value, variance = float((a - b).mean()), _variance(a - b)
    return {**_test(value, variance), "patients": over_patients(a - b, truth)}


def mean_difference(pairs: Sequence[tuple[Floats, Floats]]) -> dict[str, Any]:
    """The mean over sets of AUROC of a minus that of b; the sets are independent."""
    values, variances = zip(*((float((a - b).mean()), _variance(a - b)) for a, b in pairs), strict=True)
    return _test(float(np.mean(values)), float(np.sum(variances)) / len(pairs) ** 2)


def over_patients(matrix: Floats, truth: Truth, seed: int = 0) -> list[float]:
    """The 2.5 and 97.5 % quantiles of a matrix' mean over resamples of whole patients."""
    generator, names = np.random.default_rng(seed), np.unique(truth.patient)
    row = np.searchsorted(names, truth.patient)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)[:, row].astype(float)
    abnormal, normal = drawn[:, truth.label == 1], drawn[:, truth.label == 0]
    total = abnormal.sum(axis=1) * normal.sum(axis=1)
    sums = np.einsum("ri,ri->r", abnormal @ matrix, normal)
    low, high = bounds(np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0))
    return [float(low), float(high)]


def _variance(matrix: Floats) -> float:
    """DeLong's variance of a matrix' mean."""
    rows, columns = matrix.mean(axis=1), matrix.mean(axis=0)
    return float(rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns))


def _test(value: float, variance: float) -> dict[str, float]:
    error = float(np.sqrt(variance))
    p = float(2 * norm.sf(abs(value) / error)) if error else float(value == 0)
    return {"value": value, "low": value - Z * error, "high": value + Z * error, "p": p}
