"""Terms of the score, in one registry: a new term is one file here, with its ``measure``, and one line below.

``score = sum_i weight_i term_i`` over the terms, each standardised on held-out normals (``calibration.term_scale``).
The registry itself imports no torch, so that scores can be computed from a graph's measures without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from aeflow.config import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from aeflow.model.terms.scored_batch import ScoredBatch


@dataclass(frozen=True, slots=True)
class Term:
    """A named part of the score; ``measure`` is the function of that name in the file of the term's name."""

    name: str
    weight: Callable[[Settings], float]
    two_sided: Callable[[Settings], bool] = lambda settings: False  # unusually low counts as unusually high does

    @property
    def output(self) -> str:
        """Name of the raw measure among a graph's outputs."""
        return f"{self.name}_measure"

    @property
    def measure(self) -> Callable[[ScoredBatch], Tensor]:
        """The function from a batch to its raw measure, (B,) or (B, columns); higher is more abnormal."""
        return cast("Callable[[ScoredBatch], Tensor]", import_module(f"{__name__}.{self.name}").measure)


TERMS: dict[str, Term] = {
    term.name: term
    for term in (
        Term("flow", lambda settings: settings.beta),
        Term("reconstruction", lambda settings: 1 - settings.beta, lambda settings: settings.two_sided),
    )
}
