"""Explanation of a score: the terms that drove it, and what a network shows beside the image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aeflow._types import Floats32
from aeflow.calibration.calibration import Calibration
from aeflow.data.slices import one_image
from aeflow.imageio.errors import ImageError
from aeflow.model.terms import TERMS
from aeflow.scoring.scorer import Score, Scorer, score

if TYPE_CHECKING:  # it imports torch, which a graph does not need
    from aeflow.artifacts.reference_normals import NearNormal


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """What a network shows beside an image: how it would look if it were healthy, and the normals most like it."""

    healthy: Floats32  # (3, H, W) in [0, 1], the healthy counterpart
    difference: Floats32  # |reconstruction - healthy counterpart|, mean over the colours, (H, W)
    normals: list[NearNormal]  # nearest train normals; empty if the run folder does not hold them
    generated: list[NearNormal]  # of generated normals those nearest to the reconstruction
    shows_counterpart: bool  # if the counterpart shows anomalies of this model; else it is left out
    usual_distance: float | None = None  # of a train normal from the nearest other one, median; None without them


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """A score, and what explains it."""

    score: Score  # with maps and pictures
    threshold: float
    contributions: dict[str, float]  # of each term; they add up to the score less that of the average held-out normal
    beside: Beside | None = None  # what else the network shows; None of a graph, which holds no decoder by itself
    notes: list[str] = field(default_factory=list)

    @property
    def shares(self) -> dict[str, float]:
        """Share of each term in all that moved the score; they add up to one."""
        total = sum(map(abs, self.contributions.values())) or 1.0
        return {name: abs(value) / total for name, value in self.contributions.items()}

    @property
    def finding(self) -> str:
        """What drove the score, in a sentence."""
        side = 1 if sum(self.contributions.values()) > 0 else -1
        driver = max(self.contributions, key=lambda name: side * self.contributions[name])
        than = "above" if side > 0 else "below"
        return f"{than} the average normal image, mostly for: {words_of(driver)} ({self.shares[driver]:.0%})"

    @property
    def readings(self) -> list[str]:
        """Each term in plain words with its value in standard deviations of held-out normals, the largest first."""
        falling = sorted(self.contributions, key=lambda name: -self.contributions[name])
        return [f"{words_of(name)} {self.score.terms[name]:+.1f}" for name in falling]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; near normals by number."""

        def plain(found: list[NearNormal]) -> list[dict[str, Any]]:
            return [{"number": normal.number, "distance": normal.distance} for normal in found]

        terms = self.score.terms
        return {
            "score": self.score.value,
            "p_value": self.score.p_value,
            "verdict": self.score.verdict,
            "outside": list(self.score.outside),
            "threshold": self.threshold,
            "finding": self.finding,
            "readings": self.readings,
            "terms": {
                name: {"value": terms[name], "contribution": value, "share": self.shares[name]}
                for name, value in self.contributions.items()
            },
            "posterior": self.score.posterior,
            "nearest_normals": plain([] if self.beside is None else self.beside.normals),
            "usual_distance": None if self.beside is None else self.beside.usual_distance,
            "nearest_generated": plain([] if self.beside is None else self.beside.generated),
            "notes": self.notes,
        }


def explain_score(scorer: Scorer, path: Path | str, slice_number: int | None = None) -> Explanation:
    """Explain the score of one image, or of one slice (from 1) of a volume, by what any scorer knows, a graph too.

    Raises ImageError if the image cannot be read.
    """
    record = one_image(path, scorer.settings.slice_axis, slice_number)
    [(_, result)] = score(scorer, [record], maps=True, pictures=True)
    if isinstance(result, ImageError):
        raise result
    return Explanation(result, scorer.calibration.threshold, contributions(scorer.calibration, result))


def words_of(term: str) -> str:
    """Return what a term measures, in plain words."""
    return TERMS[term].words if term in TERMS else "evidence of the learnt classes"


def contributions(calibration: Calibration, result: Score) -> dict[str, float]:
    """Return ``weight * (term - its mean over held-out normals)`` of each term, weights as in ``Calibration.value``."""

    def value(terms: dict[str, float]) -> float:
        return float(calibration.value({name: np.array([term]) for name, term in terms.items()})[0])

    zero = dict.fromkeys(result.terms, 0.0)
    weights = {name: value({**zero, name: 1.0}) - value(zero) for name in result.terms}
    means = zero | {name: scale.mean for name, scale in calibration.term_scales.items()}  # the posterior's is 0
    return {name: weights[name] * (term - means[name]) for name, term in result.terms.items()}
