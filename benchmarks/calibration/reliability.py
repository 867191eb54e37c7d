"""Tests of probabilities: reliability, calibration error, net benefit, another prevalence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from aeflow._types import Floats
from aeflow.errors import DataError
from aeflow.metrics.intervals import grouped_bootstrap

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Bins of equally many images by their probability, lowest first; empty ones are left out."""

    predicted: Floats  # (bins,) mean probability
    found: Floats  # (bins,) share of abnormal images
    counts: NDArray[np.int64]  # (bins,) images

    @property
    def error(self) -> float:
        """Return the expected calibration error ``sum_b n_b / n |found_b - predicted_b|`` (Naeini et al. 2015)."""
        return float(self.counts @ np.abs(self.found - self.predicted) / self.counts.sum())


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> Reliability:
    """Return the reliability of probabilities (N,) against labels (N,); DataError unless both are such and fit."""
    p, y = _checked(probabilities, labels)
    number = _bins(p, bins)
    counts = np.bincount(number, minlength=bins)
    there = counts > 0
    predicted, found = (np.bincount(number, values, bins)[there] / counts[there] for values in (p, y.astype(float)))
    return Reliability(predicted, found, counts[there])


def calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, patients: Sequence[str], bins: int = 10, seed: int = 0
) -> tuple[float, float, float]:
    """Return the expected calibration error with its 95 % interval over patients, in the bins of the whole sample.

    Each bin's difference counts by its size, so noise never cancels: the error of a perfect probability is above 0.
    """
    p, y = _checked(probabilities, labels)
    member = np.eye(bins)[_bins(p, bins)]

    def error(x: Floats, truth: Bools, weights: Floats) -> Floats:
        return np.asarray(np.abs((weights * (truth - x)) @ member).sum(axis=1, keepdims=True) / weights.sum(1)[:, None])

    low, high = grouped_bootstrap(error, p, y, patients, seed=seed)
    return reliability(p, y, bins).error, float(low[0]), float(high[0])


def net_benefit(called: ArrayLike, labels: ArrayLike, at: ArrayLike, prevalence: float | None = None) -> Floats:
    """Return ``TPR pi - FPR (1 - pi) t / (1 - t)`` at threshold probabilities ``t`` (Vickers and Elkin 2006).

    ``called`` (N,) are verdicts, or (T, N) one row a threshold; ``pi`` is the share of abnormal images, by
    default the labels' own. The unit is abnormal images found without a false alarm, for each image seen. Raises
    DataError if a class is missing.
    """
    y, t = np.asarray(labels, bool), np.asarray(at, np.float64)
    if y.all() or not y.any():
        raise DataError("net benefit", "images of one class alone", "give normal and abnormal ones")
    rows = np.atleast_2d(np.asarray(called, bool))
    pi = float(y.mean()) if prevalence is None else prevalence
    return np.asarray(rows[:, y].mean(axis=1) * pi - rows[:, ~y].mean(axis=1) * (1 - pi) * t / (1 - t))


def at_prevalence(probabilities: ArrayLike, assumed: float, real: float) -> Floats:
    """Return probabilities under another share of abnormal images: ``logit p + logit(real) - logit(assumed)``.

    Bayes' rule, if only the share differs and not how the images of a class look (Saerens et al. 2002).
    """
    p = np.asarray(probabilities, np.float64)
    return np.asarray(expit(logit(p) + logit(real) - logit(assumed)))


def _bins(p: Floats, bins: int) -> NDArray[np.intp]:
    """Return the bin of each probability, by the quantiles of all."""
    return np.searchsorted(np.quantile(p, np.linspace(0, 1, bins + 1))[1:-1], p)


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    """Return both as arrays; DataError unless they are probabilities with labels."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    if p.shape != y.shape or p.ndim != 1 or not len(p):
        raise DataError("reliability", f"probabilities {p.shape} and labels {y.shape}", "give each one label")
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError("reliability", "a value outside 0 to 1", "give probabilities, not scores")
    if not np.isin(y, (0, 1)).all():
        raise DataError("reliability", "a label other than 0 and 1", "give labelled images only")
    return p, y.astype(bool)
