"""What held-out normals say about a score: its terms' spread, p-values, the threshold, and the maps' scale.

Nothing here ever sees an abnormal image or a test split.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from aeflow._types import Floats
from aeflow.calibration.map_scale import MapScale
from aeflow.calibration.posterior import Posterior
from aeflow.config import Settings
from aeflow.errors import DataError

MIN_NORMALS = 5  # held-out normals without which a spread means nothing


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted on held-out normals; turns measures into scores.

    ``term = (raw - mean) / std``; ``flow`` first averages its stages, each standardised; ``reconstruction`` counts both
    ways if ``two_sided``. With ``standardise`` off the terms stay raw.
    ``value = beta * flow + (1 - beta) * reconstruction``, the normals-only score; ``posterior`` may add its own term.
    """

    beta: float
    standardise: bool
    two_sided: bool
    stages: list[tuple[float, float]]  # mean and std of each stage's negative log-likelihood
    flow: tuple[float, float]
    reconstruction: tuple[float, float]
    scores: list[float]  # of the held-out normals, rising
    threshold: float
    rule: str
    maps: dict[str, MapScale]
    posterior: Posterior | None = None

    def terms(self, flow: Floats, reconstruction: Floats, log_ratios: Floats | None = None) -> dict[str, Floats]:
        """The terms of raw measures: ``flow`` (n, stages), ``reconstruction`` (n,), ``log_ratios`` (n, kinds)."""
        posterior = (
            {} if self.posterior is None or log_ratios is None else {"posterior": self.posterior.term(log_ratios)}
        )
        if not self.standardise:
            return {"flow": flow.mean(axis=1), "reconstruction": reconstruction, **posterior}
        mean, std = np.array(self.stages).T
        together = ((flow - mean) / std).mean(axis=1)
        distance = (reconstruction - self.reconstruction[0]) / self.reconstruction[1]
        return {
            "flow": (together - self.flow[0]) / self.flow[1],
            "reconstruction": np.abs(distance) if self.two_sided else distance,
            **posterior,
        }

    def normals_only(self, terms: dict[str, Floats]) -> Floats:
        """The score without what the classes say."""
        return self.beta * terms["flow"] + (1 - self.beta) * terms["reconstruction"]

    def value(self, terms: dict[str, Floats]) -> Floats:
        """The score, higher for more abnormal; never clamped."""
        score = self.normals_only(terms)
        return score if self.posterior is None else self.posterior.value(score, terms["posterior"])

    def p_value(self, value: float) -> float:
        """``(1 + #{held-out normals with a score >= value}) / (n + 1)``: split-conformal (Vovk et al. 2005).

        Uniform on fresh normals of the same source; never below ``1 / (n + 1)``.
        """
        n = len(self.scores)
        return (1 + n - int(np.searchsorted(self.scores, value, side="left"))) / (n + 1)

    def verdict(self, value: float) -> str:
        """``abnormal`` above the threshold, else ``normal``."""
        return "abnormal" if value > self.threshold else "normal"

    @property
    def scales(self) -> dict[str, tuple[float, float]]:
        """Low and high of each map."""
        return {name: (scale.low, scale.high) for name, scale in self.maps.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The calibration of ``to_json``; KeyError or TypeError where values are missing or of another kind."""
        values = dict(values)
        values["stages"] = [(float(mean), float(std)) for mean, std in values["stages"]]
        for name in ("flow", "reconstruction"):
            values[name] = tuple(map(float, values[name]))
        values["maps"] = {name: MapScale(**scale) for name, scale in values["maps"].items()}
        if values.get("posterior") is not None:
            values["posterior"] = Posterior.from_json(values["posterior"])
        return cls(**values)


def fit_calibration(settings: Settings, flow: Floats, reconstruction: Floats, maps: dict[str, MapScale]) -> Calibration:
    """Calibrate on the raw measures of held-out normals, ``flow`` (n, stages) and ``reconstruction`` (n,).

    The threshold is the conformal quantile: at most ``false_positive_rate`` of fresh normals lie above it on average,
    or ``1 / (n + 1)`` where n held-out normals cannot say more; ``rule`` names the share.
    Raises DataError for too few normals or a term that does not vary.
    """
    n = len(flow)
    if n < MIN_NORMALS:
        remedy = f"add train normals, until held_out = {settings.held_out:g} of them are {MIN_NORMALS} images or more"
        raise DataError("train/normal", f"only {n} held-out images to calibrate on", remedy)
    stages = [_spread(column, "flow term") for column in flow.T]
    mean, std = np.array(stages).T
    partial = Calibration(
        beta=settings.beta,
        standardise=settings.standardise,
        two_sided=settings.two_sided,
        stages=stages,
        flow=_spread(((flow - mean) / std).mean(axis=1), "flow term"),
        reconstruction=_spread(reconstruction, "reconstruction term"),
        scores=[],
        threshold=math.inf,
        rule="",
        maps=maps,
    )
    return _with_threshold(partial, settings, partial.value(partial.terms(flow, reconstruction)))


def with_posterior(
    calibration: Calibration,
    settings: Settings,
    posterior: Posterior,
    flow: Floats,
    reconstruction: Floats,
    log_ratios: Floats,
) -> Calibration:
    """The calibration with what the classes say in its score, on the raw measures of the same held-out normals."""
    partial = replace(calibration, posterior=posterior)
    return _with_threshold(partial, settings, partial.value(partial.terms(flow, reconstruction, log_ratios)))


def _with_threshold(partial: Calibration, settings: Settings, values: Floats) -> Calibration:
    n, (rank, threshold) = len(values), conformal_threshold(values, settings.false_positive_rate)
    return replace(
        partial,
        scores=np.sort(values).tolist(),
        threshold=threshold,
        rule=f"{1 - rank / (n + 1):.1%} of normal images lie above on average (rank {rank} of {n})",
    )


def conformal_threshold(values: Floats, rate: float) -> tuple[int, float]:
    """Rank and value of the score (n,) that at most ``rate`` of fresh ones exceed on average, or 1 / (n + 1)."""
    rank = min(len(values), math.ceil((len(values) + 1) * (1 - rate)))
    return rank, float(np.sort(values)[rank - 1])


def _spread(values: Floats, what: str) -> tuple[float, float]:
    mean, std = float(values.mean()), float(values.std(ddof=1))
    if not std > 1e-12 * max(1.0, abs(mean)):
        found = f"the {what} is the same for all held-out images"
        raise DataError("train/normal", found, "check that the images are not copies of one another")
    return mean, std
