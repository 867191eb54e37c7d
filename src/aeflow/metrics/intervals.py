"""95 % confidence intervals of areas, rates and whatever else can be computed from weighted images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from aeflow._types import Floats
from aeflow.errors import DataError

Bools = NDArray[np.bool_]
Statistic = Callable[[Floats, Bools, Floats], Floats]
"""(scores (N,), labels (N,), weights (R, N)) -> (R, ...): one value a row of weights, NaN where it is not defined."""

Z = float(norm.ppf(0.975))
ROWS = 64  # resamples in memory at once: 64 x 5,000 weights fit a core's cache


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a rate, (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n); n may be an effective size.

    Raises DataError unless 0 <= successes <= n and n > 0.
    """
    if not (n > 0 and 0 <= successes <= n):
        raise DataError("wilson", f"{successes} successes of {n}", "give 0 <= successes <= n with n > 0")
    p = successes / n
    centre = p + Z**2 / (2 * n)
    half = Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    # at p = 0 and p = 1 one bound is p itself, but for rounding
    low = 0.0 if p == 0 else float((centre - half) / (1 + Z**2 / n))
    high = 1.0 if p == 1 else float((centre + half) / (1 + Z**2 / n))
    return low, high


def grouped_wilson(successes: ArrayLike, patients: Sequence[str]) -> tuple[float, float]:
    """Wilson's interval of a rate over images, with their number divided by the design effect of several a patient.

    The design effect is the variance between patients over the binomial one (Rao & Scott, 1992), at least 1; where
    all images agree it cannot be estimated, and the number of patients counts. One image a patient: exactly `wilson`.
    """
    y = np.asarray(successes, bool)
    _, patient = np.unique(np.asarray(patients, str), return_inverse=True)
    n, groups, p = len(y), int(patient.max(initial=-1)) + 1, float(y.mean()) if len(y) else 0.0
    if groups == n:
        return wilson(y.sum(), n)
    if groups == 1 or p in (0.0, 1.0):
        return wilson(p * groups, groups)
    residuals = np.bincount(patient, y - p)
    between = groups / (groups - 1) * np.square(residuals).sum() / n**2
    effective = n / max(1.0, between / (p * (1 - p) / (n - 1)))
    return wilson(p * effective, effective)


def delong(scores: ArrayLike, labels: ArrayLike) -> tuple[float, float, float]:
    """AUROC and its interval by DeLong's variance (1988), in the logit so that it stays in [0, 1]; O(N log N).

    The variance comes from midranks (Sun & Xu, 2014). At perfect separation it vanishes although certainty is not
    reached; then Wilson's interval over the smaller class is given. Raises DataError below two images a class.
    """
    area, v10, v01 = _placements(scores, labels)
    variance = v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)
    if variance == 0:
        n = min(len(v10), len(v01))
        return area, *wilson(area * n, n)
    half = Z * np.sqrt(variance) / (area * (1 - area))
    return area, float(expit(logit(area) - half)), float(expit(logit(area) + half))


def delong_paired(scores_a: ArrayLike, scores_b: ArrayLike, labels: ArrayLike) -> tuple[float, float, float, float]:
    """AUROC of a minus AUROC of b on the same images: difference, low, high, two-sided p (DeLong et al., 1988).

    Raises DataError below two images a class.
    """
    area_a, v10_a, v01_a = _placements(scores_a, labels)
    area_b, v10_b, v01_b = _placements(scores_b, labels)
    difference = area_a - area_b
    # the variance of the paired difference is that of the differences of the placements
    variance = (v10_a - v10_b).var(ddof=1) / len(v10_a) + (v01_a - v01_b).var(ddof=1) / len(v01_a)
    if variance == 0:
        return difference, difference, difference, float(difference == 0)
    error = float(np.sqrt(variance))
    p_value = float(2 * norm.sf(abs(difference) / error))
    return difference, max(-1.0, difference - Z * error), min(1.0, difference + Z * error), p_value


def grouped_bootstrap(
    statistic: Statistic, scores: ArrayLike, labels: ArrayLike, patients: Sequence[str], n: int = 1000, seed: int = 0
) -> tuple[Floats, Floats]:
    """The 2.5 and 97.5 % quantiles of a statistic over n resamples of whole patients, each of the statistic's shape.

    A resample is a row of weights: how often each image was drawn. Resamples in which the statistic is not defined
    (a class was not drawn) are left out; where none is left the bounds are NaN. The order of images does not matter.
    """
    y, x = np.asarray(labels, bool), np.asarray(scores, np.float64)
    names, patient = np.unique(np.asarray(patients, str), return_inverse=True)
    groups, generator = len(names), np.random.default_rng(seed)
    values = []
    for start in range(0, n, ROWS):
        rows = min(ROWS, n - start)
        drawn = generator.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)
        values.append(statistic(x, y, times[:, patient].astype(np.float64)))
    return bounds(np.concatenate(values))


def bounds(replicates: Floats) -> tuple[Floats, Floats]:
    """The 2.5 and 97.5 % quantiles along the first axis, of the finite values; NaN where there is none."""
    flat = replicates.reshape(len(replicates), -1)
    result = np.full((2, flat.shape[1]), np.nan)
    for column, values in enumerate(flat.T):
        if (finite := values[np.isfinite(values)]).size:
            result[:, column] = np.quantile(finite, [0.025, 0.975])
    low, high = result.reshape(2, *replicates.shape[1:])
    return low, high


def _placements(scores: ArrayLike, labels: ArrayLike) -> tuple[float, Floats, Floats]:
    """AUROC, the share of normals below each abnormal score (ties half), the share of abnormals above each normal's."""
    x, y = np.asarray(scores, np.float64), np.asarray(labels, bool)
    if x.shape != y.shape or x.ndim != 1:
        raise DataError("delong", f"scores {x.shape} and labels {y.shape}", "give one label a score")
    if not np.isfinite(x).all():
        raise DataError("delong", "a score that is not finite", "leave out or repair the image it belongs to")
    if min(y.sum(), (~y).sum()) < 2:
        found = f"{(~y).sum()} normal and {y.sum()} abnormal images"
        raise DataError("delong", found, "its variance needs two of each at least")
    ranks = rankdata(x)
    v10 = (ranks[y] - rankdata(x[y])) / (~y).sum()
    v01 = 1 - (ranks[~y] - rankdata(x[~y])) / y.sum()
    return float(v10.mean()), v10, v01
