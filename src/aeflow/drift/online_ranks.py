"""Ranks of values among all that came before: uniform and independent as long as the values are exchangeable.

``u_t = (#{i < t: x_i < x_t} + U_t (1 + #{i < t: x_i = x_t})) / t`` with ``U_t`` uniform, where the values before
begin with those of a reference. ``1 - u_t`` is the online conformal p-value of Vovk, Gammerman and Shafer,
*Algorithmic Learning in a Random World*, 2nd edition, section 8.1. A fixed reference would not do: given it,
p-values are not uniform.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

# Values that are kept. From then on ranks are among these alone: given them not exactly uniform, but off by less than
# the bets of ``OtherImages`` leave to abnormal images (a rank's mean by 0.006), and no slow change is got used to.
MAX_KEPT = 2000


class OnlineRanks:
    """Ranks of single values among a reference and the values before; ``seed`` draws the place among equal ones.

    >>> ranks = OnlineRanks([1.0, 2.0, 3.0], seed=0)
    >>> 0.5 <= ranks.add(2.5) <= 0.75
    True
    """

    def __init__(self, reference: Iterable[float] = (), seed: int = 0) -> None:
        self._kept = sorted(reference)
        self._generator = np.random.default_rng(seed)

    def add(self, value: float) -> float:
        """Return the rank of a value, in [0, 1], and keep it."""
        below, at_most = bisect.bisect_left(self._kept, value), bisect.bisect_right(self._kept, value)
        u = (below + self._generator.random() * (1 + at_most - below)) / (len(self._kept) + 1)
        if len(self._kept) < MAX_KEPT:
            self._kept.insert(at_most, value)
        return float(u)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which ``from_json`` goes on."""
        return {"kept": self._kept, "generator": self._generator.bit_generator.state}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError, TypeError or ValueError if they do not fit."""
        ranks = cls(map(float, values["kept"]))
        ranks._generator.bit_generator.state = values["generator"]
        return ranks


class OnlineRanksOfLevels:
    """The same for values that are whole numbers from 0 to ``levels - 1``, in memory that does not grow."""

    def __init__(self, levels: int, seed: int = 0) -> None:
        self._counts = np.zeros(levels, np.int64)
        self._generator = np.random.default_rng(seed)

    def add(self, level: int) -> float:
        """Return the rank of a value, in [0, 1], and count it."""
        below, equal = int(self._counts[:level].sum()), int(self._counts[level])
        u = (below + self._generator.random() * (1 + equal)) / (int(self._counts.sum()) + 1)
        self._counts[level] += 1
        return float(u)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which ``from_json`` goes on."""
        return {"counts": self._counts.tolist(), "generator": self._generator.bit_generator.state}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError, TypeError or ValueError if they do not fit."""
        ranks = cls(len(values["counts"]))
        ranks._counts = np.array(values["counts"], np.int64)
        ranks._generator.bit_generator.state = values["generator"]
        return ranks
