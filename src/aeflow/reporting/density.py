"""Density curves of scores that can draw any scores: one image, ties, huge outliers, thousands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from aeflow._types import Floats
from aeflow.errors import DataError

BINS = 1024  # of the histogram under a curve


def finite(scores: ArrayLike | None) -> Floats:
    """Return scores (N,) as float64, none if there are none; raises DataError if one is not finite."""
    x = np.asarray([] if scores is None else scores, np.float64).ravel()
    if not np.isfinite(x).all():
        raise DataError("figure", "a score that is not finite", "leave out or repair the image it belongs to")
    return x


def view_of(groups: Sequence[Floats], threshold: float | None = None) -> tuple[float, float]:
    """Return the range that shows every score within 6 interquartile ranges of its group's median, and the threshold.

    Raises DataError if no group has a score.
    """
    ends: list[float] = [] if threshold is None else [threshold]
    for scores in groups:
        if len(scores):
            q10, q25, q50, q75, q90 = np.quantile(scores, [0.1, 0.25, 0.5, 0.75, 0.9])
            reach = 6 * ((q75 - q25) or (q90 - q10) or np.ptp(scores))  # ties can fill the inner half
            bulk = scores[np.abs(scores - q50) <= reach]
            ends += [float(bulk.min()), float(bulk.max())]
    if not any(len(scores) for scores in groups):
        raise DataError("figure", "no score to draw", "give the scores of at least one image")
    low, high = min(ends), max(ends)
    margin = 0.05 * (high - low) or 0.05 * abs(low) or 0.5
    return low - margin, high + margin


def curve(scores: Floats, view: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return a Gaussian kernel density with Silverman's bandwidth, 1 % of the view at least, from a fine histogram."""
    width = (view[1] - view[0]) / BINS
    counts, edges = np.histogram(scores, BINS, view)
    inside = scores[(scores >= view[0]) & (scores <= view[1])]
    q25, q75 = np.quantile(scores, [0.25, 0.75])
    spread = min(float(inside.std()), float(q75 - q25) / 1.34)
    bandwidth = max(0.9 * spread * len(scores) ** -0.2, 0.01 * (view[1] - view[0]))
    density = gaussian_filter1d(counts / (len(scores) * width), bandwidth / width, mode="constant")
    density[density < 2e-3 * density.max()] = np.nan  # no line along the axis where there is no score
    return (edges[1:] + edges[:-1]) / 2, density


def draw(axes: Axes, scores: Floats, view: tuple[float, float], colour: str) -> None:
    """Draw a filled density curve."""
    x, y = curve(scores, view)
    axes.fill_between(x, y, color=colour, alpha=0.22, linewidth=0)
    axes.plot(x, y, color=colour)
