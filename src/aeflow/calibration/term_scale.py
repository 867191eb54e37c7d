"""Standardisation of a term of the score by held-out normals, and its weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from aeflow._types import Floats
from aeflow.errors import DataError

MeanStd = tuple[float, float]


@dataclass(frozen=True, slots=True)
class TermScale:
    """``term = (mean_j (m_j - mean_j) / std_j - mean) / std`` of a raw measure ``m`` (n, columns); weight in the score.

    A measure (n,) has no columns: ``(m - mean) / std``. Two-sided, the term is its absolute value.
    """

    weight: float
    two_sided: bool
    columns: list[MeanStd] | None
    spread: MeanStd
    mean: float = 0.0  # of the term over held-out normals, as the score takes it

    @classmethod
    def fit(cls, name: str, measure: Floats, weight: float, two_sided: bool) -> Self:
        """Fit on the measures of held-out normals; raises DataError if they do not vary."""
        columns = None if measure.ndim == 1 else [spread_of(column, f"{name} term") for column in measure.T]
        partial = cls(weight, two_sided, columns, (0.0, 1.0))
        return cls(weight, two_sided, columns, spread_of(partial._combined(measure), f"{name} term"))

    def term(self, measure: Floats) -> Floats:
        """Return the standardised term (n,)."""
        distance = (self._combined(measure) - self.spread[0]) / self.spread[1]
        return np.abs(distance) if self.two_sided else distance

    def _combined(self, measure: Floats) -> Floats:
        """Return the mean of the columns, each standardised, (n,)."""
        if self.columns is None:
            return measure
        mean, std = np.array(self.columns).T
        combined: Floats = ((measure - mean) / std).mean(axis=1)
        return combined

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError, TypeError or ValueError if they do not fit."""
        columns = values["columns"]
        return cls(
            weight=float(values["weight"]),
            two_sided=bool(values["two_sided"]),
            columns=None if columns is None else [_pair(pair) for pair in columns],
            spread=_pair(values["spread"]),
            mean=float(values["mean"]),
        )


def spread_of(values: Floats, what: str) -> MeanStd:
    """Return mean and standard deviation of held-out normals; raises DataError if they do not vary."""
    mean, std = float(values.mean()), float(values.std(ddof=1))
    if not std > 1e-12 * max(1.0, abs(mean)):
        found = f"the {what} is the same for all held-out images"
        raise DataError("train/normal", found, "check that the images are not copies of one another")
    return mean, std


def _pair(values: Any) -> MeanStd:
    mean, std = values
    return float(mean), float(std)
