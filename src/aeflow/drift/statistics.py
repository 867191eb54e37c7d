"""Comparison of statistics of new images with those of the reference normals, and the control of false discoveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import false_discovery_control, ttest_ind

from aeflow._types import Floats

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
            welch = ttest_ind(new, old, equal_var=False)
            shift, (low, high) = float(new.mean() - old.mean()) / scale, welch.confidence_interval()
            bounds, spread = (float(low) / scale, float(high) / scale), float(new.std(ddof=1)) / scale
            found.append(Comparison(name, len(new), len(old), shift, *bounds, spread, float(welch.pvalue)))
    return found


def controlled(groups: Sequence[Sequence[Comparison]]) -> list[list[Comparison]]:
    """Return comparisons with their ``q``, over all of all groups together."""
    every = [comparison for group in groups for comparison in group]
    if not every:
        return [[] for _ in groups]
    q = iter(false_discovery_control([comparison.p for comparison in every], method="bh").tolist())
    return [[replace(comparison, q=next(q)) for comparison in group] for group in groups]
