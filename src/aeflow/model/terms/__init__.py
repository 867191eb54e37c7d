"""Terms of the score, in one registry: a new term is one file here, with its ``Module``, and one line below.

``score = sum_i weight_i term_i`` over the model's terms, each standardised on held-out normals
(``calibration.term_scale``). The registry itself imports no torch, so that scores can be computed from a graph's
measures without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from aeflow.config import Settings

if TYPE_CHECKING:
    from aeflow.model.terms.base import Layout, TermModule


@dataclass(frozen=True, slots=True)
class Term:
    """A named part of the score; its ``Module`` is in the file of the term's name."""

    name: str
    words: str  # what it measures, in plain words
    weight: Callable[[Settings], float] = lambda settings: 1.0
    two_sided: Callable[[Settings], bool] = lambda settings: False  # unusually low counts as unusually high does

    @property
    def output(self) -> str:
        """Name of the raw measure among a graph's outputs."""
        return f"{self.name}_measure"

    def module(self, settings: Settings, layout: Layout) -> TermModule:
        """Return the term's module for a model of this layout."""
        made = import_module(f"{__name__}.{self.name}").Module
        return cast("TermModule", made.of(settings, layout))


def _beta(settings: Settings) -> float:
    return settings.beta if "reconstruction" in settings.chosen_terms else 1.0


TERMS: dict[str, Term] = {
    term.name: term
    for term in (
        Term("flow", "how unlikely its places are among normal images", _beta),
        Term(
            "reconstruction",
            "difference from its reconstruction",
            lambda settings: 1 - settings.beta,
            lambda settings: settings.two_sided,
        ),
        Term("pooled_filter", "brightness and texture of the region against what lies beside it"),
        Term("pooled_energy", "look of the region as a whole, by quarters and by sides"),
        Term("lesion_residual", "places that look as no normal does"),
        Term("mirror_difference", "places that look different from the other side"),
        Term("mirror_filter", "places brighter or smoother than the other side"),
    )
}
