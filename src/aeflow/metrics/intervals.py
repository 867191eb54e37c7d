"""Confidence intervals (95 %) of areas, rates and any other statistic of weighted images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aeflow._types import Floats
from aeflow.errors import DataError, count
from aeflow.metrics.distributions import midranks, normal_quantile, normal_tail

Bools = NDArray[np.bool_]
Statistic = Callable[[Floats, Bools, Floats], Floats]
"""(scores (N,), labels (N,), weights (R, N)) -> (R, ...): one value a row of weights, NaN if it is not defined."""

Z = normal_quantile(0.975)
RESAMPLES_AT_ONCE = 64  # resamples in memory at once: 64 x 5,000 weights fit a core's cache


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Return Wilson's score interval of a rate; ``n`` may be an effective size.

    ``(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)``. Raises DataError unless 0 <= successes <= n and n > 0.

        >>> low, high = wilson(8, 10)
        >>> round(low, 3), round(high, 3)
        (0.49, 0.943)
    """
    if not (n > 0 and 0 <= successes <= n):
        raise DataError("wilson", f"{successes} successes of {n}", "give 0 <= successes <= n with n > 0")
    p = successes / n
    centre = p + Z**2 / (2 * n)
    half = Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    # at p = 0 and p = 1 one bound is p itself, up to rounding
    low = 0.0 if p == 0 else float((centre - half) / (1 + Z**2 / n))
    high = 1.0 if p == 1 else float((centre + half) / (1 + Z**2 / n))
    return low, high


def grouped_wilson(successes: ArrayLike, patients: Sequence[str]) -> tuple[float, float]:
    """Return Wilson's interval of a rate over images, corrected for several images a patient.

    The number of images is divided by the design effect: the variance between patients over the binomial one (Rao &
    Scott, 1992), at least 1. If all images agree it cannot be estimated, and the number of patients counts. With one
    image a patient it is exactly `wilson`. A success may be partial, in [0, 1]: a tie that half won.

        >>> [round(bound, 3) for bound in grouped_wilson([1, 1, 1, 1, 0, 1, 0, 0], list("aaaabcdd"))]
        [0.184, 0.925]
        >>> [round(bound, 3) for bound in wilson(5, 8)]  # as if each image had a patient of its own
        [0.306, 0.863]
    """
    y = np.asarray(successes, np.float64)
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
    """Return the AUROC and its interval by DeLong's variance (1988), in the logit, so it stays in [0, 1]; O(N log N).

    The variance comes from midranks (Sun & Xu, 2014). At perfect separation it vanishes although certainty is not
    reached; then Wilson's interval over the smaller class is given. Raises DataError below two images a class.

        >>> area, low, high = delong([1, 2, 3, 4, 5, 6], [0, 0, 1, 0, 1, 1])
        >>> round(area, 3), round(low, 3), round(high, 3)
        (0.889, 0.261, 0.995)
    """
    area, abnormal, normal = _placements(scores, labels)
    low, high = auroc_interval(area, delong_variance(abnormal, normal), min(len(abnormal), len(normal)))
    return area, low, high


def delong_paired(scores_a: ArrayLike, scores_b: ArrayLike, labels: ArrayLike) -> tuple[float, float, float, float]:
    """Return the AUROC of a minus that of b on the same images: difference, low, high, two-sided p.

    DeLong et al. (1988). Raises DataError below two images a class.
    """
    area_a, abnormal_a, normal_a = _placements(scores_a, labels)
    area_b, abnormal_b, normal_b = _placements(scores_b, labels)
    difference = area_a - area_b
    # the variance of the paired difference is that of the differences of the placements
    variance = delong_variance(abnormal_a - abnormal_b, normal_a - normal_b)
    return difference, *difference_interval(difference, variance)


def delong_variance(abnormal: Floats, normal: Floats) -> float:
    """Return DeLong's variance of an AUROC, or of a difference, from the placements of either class."""
    return float(abnormal.var(ddof=1) / len(abnormal) + normal.var(ddof=1) / len(normal))


def auroc_interval(area: float, variance: float, n: int) -> tuple[float, float]:
    """Return the interval of an AUROC in the logit; with no variance Wilson's over the ``n`` of the smaller class."""
    if variance == 0:
        return wilson(area * n, n)
    half, logit = Z * np.sqrt(variance) / (area * (1 - area)), np.log(area / (1 - area))
    return float(1 / (1 + np.exp(half - logit))), float(1 / (1 + np.exp(-half - logit)))


def difference_interval(difference: float, variance: float) -> tuple[float, float, float]:
    """Return low, high and the two-sided p of a difference of two AUROCs."""
    if variance == 0:
        return difference, difference, float(difference == 0)
    error = float(np.sqrt(variance))
    p_value = 2 * normal_tail(abs(difference) / error)
    return max(-1.0, difference - Z * error), min(1.0, difference + Z * error), p_value


def grouped_bootstrap(
    statistic: Statistic, scores: ArrayLike, labels: ArrayLike, patients: Sequence[str], n: int = 1000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the 2.5 and 97.5 % quantiles of a statistic over n resamples of patients, each of the statistic's shape.

    A resample is a row of weights: how often each image was drawn, all images of a patient together. Resamples in which
    the statistic is not defined (a class was not drawn) are left out; if none is left the bounds are NaN. The order of
    images does not matter.
    """
    y, x = np.asarray(labels, bool), np.asarray(scores, np.float64)
    names, patient = np.unique(np.asarray(patients, str), return_inverse=True)
    groups, generator = len(names), np.random.default_rng(seed)
    values = []
    for start in range(0, n, RESAMPLES_AT_ONCE):
        rows = min(RESAMPLES_AT_ONCE, n - start)
        drawn = generator.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)
        values.append(statistic(x, y, times[:, patient].astype(np.float64)))
    return bounds(np.concatenate(values))


def bounds(replicates: Floats) -> tuple[Floats, Floats]:
    """Return the 2.5 and 97.5 % quantiles along the first axis, of the finite values; NaN if there is none."""
    flat = replicates.reshape(len(replicates), -1)
    result = np.full((2, flat.shape[1]), np.nan)
    for column, values in enumerate(flat.T):
        if (finite := values[np.isfinite(values)]).size:
            result[:, column] = np.quantile(finite, [0.025, 0.975])
    low, high = result.reshape(2, *replicates.shape[1:])
    return low, high


def _placements(scores: ArrayLike, labels: ArrayLike) -> tuple[float, Floats, Floats]:
    """Return the AUROC, and the placements of both classes.

    The placement of an abnormal image is the share of normals with a lower score, of a normal image the share of
    abnormals with a higher one; ties count half.
    """
    x, y = np.asarray(scores, np.float64), np.asarray(labels, bool)
    if x.shape != y.shape or x.ndim != 1:
        raise DataError("delong", f"scores {x.shape} and labels {y.shape}", "give one label a score")
    if not np.isfinite(x).all():
        raise DataError("delong", "a score that is not finite", "leave out or repair the image it belongs to")
    if min(y.sum(), (~y).sum()) < 2:
        found = f"{(~y).sum():,} normal and {count(int(y.sum()), 'abnormal image')}"
        raise DataError("delong", found, "its variance needs two of each at least")
    ranks = midranks(x)
    v10 = (ranks[y] - midranks(x[y])) / (~y).sum()
    v01 = 1 - (ranks[~y] - midranks(x[~y])) / y.sum()
    return float(v10.mean()), v10, v01
