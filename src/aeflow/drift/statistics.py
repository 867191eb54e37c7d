"""Comparison of statistics of new images with those of the reference normals, and the control of false discoveries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aeflow._types import Floats
from aeflow.metrics.distributions import student_quantile, student_tail

MIN_IMAGES = 10  # of each side; of fewer, a spread means nothing
VARIES = 1e-9  # share of its mean by which a statistic differs between normals; of less, it is rounding
FALSE_DISCOVERIES = 0.05  # share of the differences called significant that may be none


@dataclass(frozen=True, slots=True)
class Comparison:
    """Difference of one statistic between new images and the reference normals, of one image a patient each.

    ``shift`` is that of the mean, in standard deviations of the normals, with its 95 % interval and ``p`` of Welch's
    test; ``spread`` the ratio of standard deviations; ``q`` is ``p`` after Benjamini and Hochberg (1995) over all
    comparisons of a report.
    """

    statistic: str
    images: int
    normals: int
    shift: float
    low: float
    high: float
    spread: float
    p: float
    q: float = np.nan

    @property
    def significant(self) -> bool:
        """If the difference is one at the rate of false discoveries."""
        return self.q <= FALSE_DISCOVERIES


def compare(normals: Mapping[str, Floats], images: Mapping[str, Floats]) -> list[Comparison]:
    """Compare each statistic that both have; those of too few images, or alike in all normals, are left out."""
    found = []
    for name, reference in normals.items():
        old, new = (values[np.isfinite(values)] for values in (reference, images.get(name, np.empty(0))))
        if min(len(old), len(new)) < MIN_IMAGES:
            continue
        scale = float(old.std(ddof=1))
        if scale > VARIES * max(1.0, abs(float(old.mean()))):
            (low, high), p = welch(new, old)
            shift, spread = float(new.mean() - old.mean()) / scale, float(new.std(ddof=1)) / scale
            found.append(Comparison(name, len(new), len(old), shift, low / scale, high / scale, spread, p))
    return found


def welch(a: Floats, b: Floats) -> tuple[tuple[float, float], float]:
    """Return the 95 % interval of the difference of two means, and the two-sided p that there is none (Welch 1947).

    >>> (low, high), p = welch(np.array([1.0, 2.0, 3.0, 4.0]), np.array([4.0, 6.0, 8.0, 10.0]))
    >>> round(low, 2), round(high, 2), round(p, 3)
    (-8.36, -0.64, 0.031)
    """
    of_a, of_b = (float(side.var(ddof=1)) / len(side) for side in (a, b))
    difference, error = float(a.mean() - b.mean()), math.sqrt(of_a + of_b)
    degrees = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    half = student_quantile(0.975, degrees) * error
    return (difference - half, difference + half), 2 * student_tail(abs(difference) / error, degrees)


def controlled(groups: Sequence[Sequence[Comparison]]) -> list[list[Comparison]]:
    """Return comparisons with their ``q``, over all of all groups together."""
    every = [comparison for group in groups for comparison in group]
    if not every:
        return [[] for _ in groups]
    p = np.array([comparison.p for comparison in every])
    falling, ranks = np.argsort(p)[::-1], np.arange(len(p), 0, -1)
    q = np.empty_like(p)
    q[falling] = np.minimum.accumulate(p[falling] * len(p) / ranks).clip(max=1)
    rest = iter(q.tolist())
    return [[replace(comparison, q=next(rest)) for comparison in group] for group in groups]
