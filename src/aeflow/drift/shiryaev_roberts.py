"""Shiryaev-Roberts statistic of several bets: the evidence that something has changed by now, whenever it was.

``R_t = (R_{t-1} + 1) e_t`` for each bet, where ``e_t`` is its factor (``bets``): the sum, over all times at which
the change may have come, of what one unit had become that was staked then. Under the null ``R_t - t`` is a
supermartingale, so the mean time until ``R`` first passes ``c`` is at least ``c``: no more than one false alarm in
``c`` values in the long run, if it begins again after each (Shiryaev 1963; for e-values: Shin, Ramdas and Rinaldo,
*E-detectors*, 2024; with conformal p-values: Vovk et al., *Retrain or not retrain*, COPA 2021). The same holds for
any fixed mean over bets.

A martingale from 1 passes ``c`` with probability at most ``1 / c``, ever (Ville), but what it has lost in quiet
years it must win back before it can say that something changed.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np

from aeflow._types import Floats

EVERY = slice(None)


class Onset(NamedTuple):
    """Estimate of the time of a change, with an interval of two standard deviations either way."""

    at: float
    low: float
    high: float


class ShiryaevRoberts:
    """Statistic of bets (n,), and of when each was first right: ``sum_s s R_{s,t}`` and ``sum_s s^2 R_{s,t}``.

    ``R_{s,t} / R_t`` is the posterior of a change at ``s`` under a flat prior.

    >>> statistic = ShiryaevRoberts(1)
    >>> [float(statistic.update([e], time)[0]) for time, e in enumerate([1, 1, 2, 2])]
    [1.0, 2.0, 6.0, 14.0]
    """

    def __init__(self, bets: int) -> None:
        self._moments = np.zeros((3, bets))

    @property
    def values(self) -> Floats:
        """The statistic of each bet, (n,)."""
        return np.asarray(self._moments[0])

    def update(self, factors: Floats, time: int, bets: slice = EVERY) -> Floats:
        """Return the statistic of each bet (n,) after the factors of ``bets`` at a time; others stay as they are."""
        moments = self._moments[:, bets]
        moments += np.array([[1.0], [time], [float(time) ** 2]])
        moments *= factors
        return self.values

    def moments(self, weights: Floats) -> Floats:
        """Return the weighed sums (3,) over bets of the statistic, and of its first and second moment in time."""
        return np.asarray(self._moments @ weights)

    def restart(self) -> None:
        """Begin again, as after an alarm."""
        self._moments = np.zeros_like(self._moments)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which ``from_json`` goes on."""
        return {"moments": self._moments.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError, TypeError or ValueError if they do not fit."""
        moments = np.array(values["moments"], float)
        statistic = cls(moments.shape[1])
        statistic._moments = moments
        return statistic


def onset(moments: Floats, first: int, last: int) -> Onset:
    """Return when a change came, between two times, from the ``moments`` (3,) of a statistic."""
    total, mean = float(moments[0]), float(moments[1] / moments[0])
    half = 2 * float(np.sqrt(max(0.0, moments[2] / total - mean**2)))
    return Onset(*(float(np.clip(time, first, last)) for time in (mean, mean - half, mean + half)))
