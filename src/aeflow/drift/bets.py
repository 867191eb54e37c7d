"""Bets against a null hypothesis: factors of a stake whose mean is at most 1 under it (e-values).

On a rank ``u`` that is uniform under the null: ``f(u) = 1 - s + s 1{u in A} / |A|``, the share ``s`` of the stake on
a set ``A`` of ranks: the lowest, the highest, both ends, or the middle.

If at most a share ``c`` of the values are anything at all, and so are at most ``c`` of those that a rank is among,
then ``f(u) / (1 + c max f)`` has a mean of at most 1 still: a clean value's rank has a density of at most ``1 / (1 -
c)``, another one wins at most ``max f``, and ``(1 - c) / (1 - c) + c max f`` is their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aeflow._types import Floats

Kind = Literal["lower", "higher", "wider", "narrower"]


@dataclass(frozen=True, slots=True)
class Bet:
    """Bet that values are lower, higher, more or less spread: the share ``stake`` on the ``share`` of the ranks."""

    kind: Kind
    share: float
    stake: float


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


def rate_factors(flag: bool, at_most: float, instead: Floats) -> Floats:
    """Return the factors of bets that a yes comes at the rates ``instead`` (n,); the null says at most ``at_most``.

    ``instead / at_most`` for a yes, ``(1 - instead) / (1 - at_most)`` for a no: a likelihood ratio.
    """
    return instead / at_most if flag else (1 - instead) / (1 - at_most)
