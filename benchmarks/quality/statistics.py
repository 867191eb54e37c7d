"""Intervals and tests of AUROCs that are means over seeds, on the same images, and of their mean over data sets.

Everything comes from one matrix, ``wins`` (abnormal, normal): the share of seeds in which an abnormal image scores
above a normal one, ties counted half. Its mean is the mean AUROC; the means of its rows and columns are DeLong's
placements (DeLong et al. 1988), averaged over seeds. For one seed the results are those of
``aeflow.metrics.intervals.delong`` and ``delong_paired``.

DeLong takes images for independent. Several of one patient are not, so a bootstrap over patients stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aeflow._types import Floats
from aeflow.metrics.intervals import auroc_interval, bounds, delong_variance, difference_interval

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Truth:
    """The labels and patients of a set's test images."""

    label: NDArray[np.int64]  # (N,)
    patient: NDArray[np.int64]  # (N,)


def wins(scores: Sequence[ArrayLike], truth: Truth) -> Floats:
    """Return the matrix above from the scores (N,) of each seed."""
    found = np.zeros(((truth.label == 1).sum(), (truth.label == 0).sum()))
    for one in scores:
        x = np.asarray(one, np.float64)
        abnormal, normal = x[truth.label == 1][:, None], x[truth.label == 0][None]
        found += (abnormal > normal) + 0.5 * (abnormal == normal)
    return found / len(scores)


def mean_auroc(won: Floats, truth: Truth) -> dict[str, Any]:
    """Return the mean AUROC with DeLong's interval, and with one over patients."""
    value = float(won.mean())
    low, high = auroc_interval(value, _variance(won), min(won.shape))
    return {"value": value, "low": low, "high": high, "patients": over_patients(won, truth)}


def difference(a: Floats, b: Floats, truth: Truth) -> dict[str, Any]:
    """Return AUROC of a minus AUROC of b on the same images: DeLong's interval and p, and an interval over patients."""
    return {**_tested(float((a - b).mean()), _variance(a - b)), "patients": over_patients(a - b, truth)}


def mean_difference(pairs: Sequence[tuple[Floats, Floats]]) -> dict[str, Any]:
    """Return the mean over sets of AUROC of a minus that of b; the sets are independent."""
    values, variances = zip(*((float((a - b).mean()), _variance(a - b)) for a, b in pairs), strict=True)
    return _tested(float(np.mean(values)), float(np.sum(variances)) / len(pairs) ** 2)


def over_patients(matrix: Floats, truth: Truth, seed: int = 0) -> list[float]:
    """Return the 2.5 and 97.5 % quantiles of a matrix' mean over resamples of whole patients."""
    generator, names = np.random.default_rng(seed), np.unique(truth.patient)
    row = np.searchsorted(names, truth.patient)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)[:, row].astype(float)
    abnormal, normal = drawn[:, truth.label == 1], drawn[:, truth.label == 0]
    total = abnormal.sum(axis=1) * normal.sum(axis=1)
    sums = np.einsum("ri,ri->r", abnormal @ matrix, normal)
    low, high = bounds(np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0))
    return [float(low), float(high)]


def _variance(matrix: Floats) -> float:
    """Return DeLong's variance of a matrix' mean."""
    return delong_variance(matrix.mean(axis=1), matrix.mean(axis=0))


def _tested(value: float, variance: float) -> dict[str, float]:
    low, high, p = difference_interval(value, variance)
    return {"value": value, "low": low, "high": high, "p": p}
