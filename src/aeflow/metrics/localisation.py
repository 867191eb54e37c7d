"""Localisation: where an anomaly map is hottest, against masks, over any number of images.

Of each image a few numbers are kept and no map. The hottest k of n positions are those of the k highest values; where
several positions tie for the last places, each counts as much as any other (the mean over all choices among them). So a
map that is the same everywhere lies inside a mask exactly as often as chance has it: a map cannot win by its ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Floats
from aeflow.errors import DataError
from aeflow.metrics.intervals import grouped_bootstrap, grouped_wilson, wilson

Bools = NDArray[np.bool_]
Metric = dict[str, Any]  # {"value", "low", "high", "interval", "chance", "ratio"}

HOTTEST = 0.05  # share of the positions in the hottest area
BORDER = 0.1  # of a side: how far from the edge the border of a picture reaches


class Localisation:
    """Shares of maps' hottest points and areas inside of masks, streaming, each with a 95 % interval and chance."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._patients: list[str] = []
        # an image: hottest point inside, hottest area inside and at the border; share of the mask and of the border
        self._images: list[tuple[float, float, float, float, float]] = []

    def update(
        self, score_map: NDArray[np.floating[Any]], target: Bools, patient: str, counts: Bools | None = None
    ) -> None:
        """Count one image: score map (H, W), target mask (H, W), and where positions count (H, W), else everywhere.

        A target that marks nothing is passed over: nothing can be found there. Raises DataError if shapes misfit, the
        map is not finite where it counts, or no position counts.
        """
        scores, truth = np.asarray(score_map, np.float64), np.asarray(target, bool)
        area = np.ones(scores.shape, bool) if counts is None else np.asarray(counts, bool)
        if not scores.shape == truth.shape == area.shape or scores.ndim != 2:
            found = f"map {scores.shape}, mask {truth.shape} and counting area {area.shape}"
            raise DataError("localisation", found, "give all as (H, W)")
        if not area.any() or not np.isfinite(scores[area]).all():
            found = "a map with values that are not finite" if area.any() else "an image where no position counts"
            raise DataError("localisation", found, "leave out its image")
        if not truth.any():
            return
        values, inside, edge = scores[area], truth[area], border(scores.shape)[area]
        k = hottest_count(values.size)
        self._images.append(
            (
                share_of_hottest(values, inside, 1),
                share_of_hottest(values, inside, k),
                share_of_hottest(values, edge, k),
                float(inside.mean()),
                float(edge.mean()),
            )
        )
        self._patients.append(patient)

    def result(self) -> dict[str, Any] | None:
        """Return one part of `metrics.json`'s localisation; None if no image was counted.

        ``hottest_point``: share of images whose hottest point lies inside. ``hottest_area``: mean share of the hottest
        5 % of the positions that lies inside; ``border``: that lies within a tenth of a side from the edge. ``chance``
        is what a map that knows nothing has: the mean share of the area that the mask (the border) takes up.
        """
        if not self._images:
            return None
        point, area, edge, chance, edge_chance = np.array(self._images).T
        return {
            "n_images": len(point),
            "n_patients": len(set(self._patients)),
            "hottest_point": self._metric(point, chance, "wilson"),
            "hottest_area": self._metric(area, chance, "patient bootstrap"),
            "border": self._metric(edge, edge_chance, "patient bootstrap"),
        }

    def _metric(self, shares: Floats, chance: Floats, interval: str) -> Metric:
        """Return the mean of the images' shares, with its interval beside chance; a single patient gives none."""
        value, expected = float(shares.mean()), float(chance.mean())
        metric = {"chance": expected, "ratio": value / expected if expected else None}
        patients = len(set(self._patients))
        if patients == 1:
            return {"value": value, "low": None, "high": None, "interval": None, **metric}
        if interval == "wilson":
            low, high = grouped_wilson(shares, self._patients)
        else:
            low, high = _mean_interval(shares, self._patients, self.seed)
            if high - low < 1e-9:  # resamples that all agree, up to rounding, show no uncertainty
                (low, high), interval = wilson(value * patients, patients), "wilson"
        return {"value": value, "low": low, "high": high, "interval": interval, **metric}


def looks(metric: Metric) -> str:
    """Return "there" if the interval lies above chance, "elsewhere" if below it, else "undecided".

    >>> looks({"low": 0.05, "high": 0.16, "chance": 0.34})
    'elsewhere'
    """
    if metric["low"] is None:
        return "undecided"
    if metric["high"] < metric["chance"]:
        return "elsewhere"
    return "there" if metric["low"] > metric["chance"] else "undecided"


def hottest_count(n: int) -> int:
    """Return how many of n positions are the hottest 5 %, at least one.

    >>> hottest_count(196), hottest_count(3)
    (10, 1)
    """
    return max(1, round(HOTTEST * n))


def share_of_hottest(values: Floats, inside: Bools, k: int) -> float:
    """Return the share inside (N,) of the k highest values (N,); ties for the last places share these.

    >>> share_of_hottest(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]), 2)
    0.75
    """
    last = np.partition(values, values.size - k)[values.size - k]
    above, tied = values > last, values == last
    places = k - np.count_nonzero(above)  # left to those that tie
    return float((np.count_nonzero(inside & above) + places * inside[tied].mean()) / k)


def mean_of_hottest(values: Floats) -> float:
    """Return the mean of the hottest 5 % of values (N,), N > 0.

    >>> mean_of_hottest(np.arange(40.0))
    38.5
    """
    k = hottest_count(values.size)
    return float(np.partition(values, values.size - k)[values.size - k :].mean())


def border(shape: tuple[int, ...]) -> Bools:
    """Return the positions (H, W) whose centres lie within a tenth of a side from the edge.

    >>> int(border((10, 10)).sum())
    36
    """
    near = [np.minimum(at, 1 - at) < BORDER for at in ((np.arange(side) + 0.5) / side for side in shape)]
    return np.logical_or.outer(*near)


def _mean_interval(shares: Floats, patients: Sequence[str], seed: int) -> tuple[float, float]:
    """Return the interval of the mean over images, from resamples of patients."""

    def mean(x: Floats, _: Bools, weights: Floats) -> Floats:
        return np.asarray(weights @ x / weights.sum(1))[:, None]

    low, high = grouped_bootstrap(mean, shares, np.ones(len(shares), bool), patients, seed=seed)
    return float(low[0]), float(high[0])
