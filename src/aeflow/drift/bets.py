"""Bets against a null hypothesis: factors of a stake whose mean is at most 1 under it (e-values).

On a rank ``u`` that is uniform under the null there are two families:

- ``f(u) = 1 - s + s 1{u in A} / |A|``, the share ``s`` of the stake on a set ``A`` of ranks: the lowest, the highest,
  both ends, or the middle. It gains most where a share of the values has gone to ``A``.
- ``f(u) = min(exp(h(z)), m) / E[min(exp(h(z)), m)]``, where ``z`` is the normal quantile of ``u`` and ``h`` is ``a z``,
  ``-a z``, ``a z^2`` or ``-a z^2``. It gains most where all values are shifted, or more or less spread: without the
  bound ``m`` it is the likelihood ratio of a shift of ``a`` standard deviations, or of another spread. The bound keeps
  ``max f``, and with it what contamination costs, small (Huber 1965).

If at most a share ``c`` of the values are anything at all, and so are at most ``c`` of those that a rank is among,
then ``f(u) / (1 + c max f)`` has a mean of at most 1 still: a clean value's rank has a density of at most ``1 / (1 -
c)``, another one wins at most ``max f``, and ``(1 - c) / (1 - c) + c max f`` is their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np

from aeflow._types import Floats

Kind = Literal["lower", "higher", "wider", "narrower"]
NORMAL = NormalDist()  # of the standard library: charts are read where scipy is not loaded
LEAST = 1e-15  # rank, and distance from 1; none is drawn beyond


@dataclass(frozen=True, slots=True)
class Bet:
    """Bet that values are lower, higher, more or less spread: the share ``stake`` on the ``share`` of the ranks."""

    kind: Kind
    share: float
    stake: float


@dataclass(frozen=True, slots=True)
class Tilt:
    """Bet that values are lower, higher, more or less spread, with ``h`` of ``strength`` times ``z`` or ``z^2``.

    It does not grow beyond the share ``bound`` of the ranks; that of "narrower" has its largest value in the middle.
    """

    kind: Kind
    strength: float
    bound: float = 0.0


class Bets:
    """Several bets on a rank at once, with a share ``contamination`` of values that may be anything."""

    def __init__(self, bets: Sequence[Bet], contamination: float = 0.0) -> None:
        self.bets = tuple(bets)
        low, high, inside, stakes, shares = [], [], [], [], []
        for bet in self.bets:
            a = bet.share
            # bounds of the ranks that win; for "wider" of those that do not
            bounds = {
                "lower": (-1.0, a),
                "higher": (1 - a, 2.0),
                "narrower": (0.5 - a / 2, 0.5 + a / 2),
                "wider": (a / 2, 1 - a / 2),
            }[bet.kind]
            low.append(bounds[0])
            high.append(bounds[1])
            inside.append(bet.kind != "wider")
            stakes.append(bet.stake)
            shares.append(a)
        self._low, self._high, self._inside = np.array(low), np.array(high), np.array(inside)
        stake = np.array(stakes)
        most = 1 - stake + stake / np.array(shares)
        self._won, self._lost = most / (1 + contamination * most), (1 - stake) / (1 + contamination * most)

    def factors(self, u: float | Floats) -> Floats:
        """Return the factor of each bet (..., bets) for ranks ``u`` (...)."""
        rank = np.asarray(u)[..., None]
        won = ((rank > self._low) & (rank < self._high)) == self._inside
        return np.asarray(np.where(won, self._won, self._lost), np.float64)


class Tilts:
    """Several tilts on a rank at once, with a share ``contamination`` of values that may be anything."""

    def __init__(self, tilts: Sequence[Tilt], contamination: float = 0.0) -> None:
        self.bets = tuple(tilts)
        terms = np.array([_tilt(tilt) for tilt in self.bets])
        self._linear, self._square, self._most, log_mean = terms.T
        self._allowance = log_mean + np.log1p(contamination * np.exp(self._most - log_mean))

    def factors(self, u: float | Floats) -> Floats:
        """Return the factor of each tilt (..., tilts) for ranks ``u`` (...)."""
        rank = np.clip(np.asarray(u, np.float64), LEAST, 1 - LEAST)
        z = np.array([NORMAL.inv_cdf(one) for one in rank.ravel()]).reshape(*rank.shape, 1)
        return np.asarray(np.exp(np.minimum(self._linear * z + self._square * z**2, self._most) - self._allowance))


def _tilt(tilt: Tilt) -> tuple[float, float, float, float]:
    """Return the factors of z and z^2, the largest exponent, and the logarithm of the mean for a uniform rank."""
    a = tilt.strength
    if tilt.kind in ("lower", "higher"):
        b = NORMAL.inv_cdf(tilt.bound)
        mean = exp(a * a / 2) * NORMAL.cdf(b - a) + exp(a * b) * NORMAL.cdf(-b)
        return (a if tilt.kind == "higher" else -a), 0.0, a * b, log(mean)
    if tilt.kind == "narrower":
        return 0.0, -a, 0.0, -0.5 * log(1 + 2 * a)
    b, root = NORMAL.inv_cdf((1 + tilt.bound) / 2), sqrt(1 - 2 * a)  # a is below 1/2
    mean = (2 * NORMAL.cdf(b * root) - 1) / root + 2 * exp(a * b * b) * NORMAL.cdf(-b)
    return 0.0, a, a * b * b, log(mean)


def rate_factors(flag: bool, at_most: float, instead: Floats) -> Floats:
    """Return the factors of bets that a yes comes at the rates ``instead`` (n,); the null says at most ``at_most``.

    ``instead / at_most`` for a yes, ``(1 - instead) / (1 - at_most)`` for a no: a likelihood ratio.
    """
    return instead / at_most if flag else (1 - instead) / (1 - at_most)
