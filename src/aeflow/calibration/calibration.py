"""Calibration of a score by held-out normals: its terms' scales, p-values, the threshold, and the maps' scales.

Nothing here ever sees an abnormal image or a test split.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from aeflow._types import Floats
from aeflow.calibration.map_scale import MapScale
from aeflow.calibration.posterior import Posterior
from aeflow.calibration.term_scale import TermScale
from aeflow.config import Settings
from aeflow.errors import DataError, SettingsError, count
from aeflow.model.output_names import POSTERIOR
from aeflow.model.terms import TERMS

MIN_NORMALS = 5  # held-out normals; of fewer, a spread means nothing


@dataclass(frozen=True, slots=True)
class Calibration:
    """Terms, p-values and threshold, fitted on held-out normals; turns raw measures into scores.

    ``value = sum_i weight_i term_i`` is the normals-only score, see ``TermScale``; ``posterior`` may add its own term.
    With ``standardise`` off the terms are the raw measures, averaged over their columns.
    """

    standardise: bool
    term_scales: dict[str, TermScale]  # by term, in the order of the sum
    scores: list[float]  # of the held-out normals, rising
    threshold: float
    rule: str
    maps: dict[str, MapScale]
    posterior: Posterior | None = None

    def terms(self, measures: Mapping[str, Floats], log_ratios: Floats | None = None) -> dict[str, Floats]:
        """Return the terms (n,) of raw measures, (n,) or (n, columns), and of log-ratios (n, kinds) of the classes."""
        if self.standardise:
            terms = {name: scale.term(measures[name]) for name, scale in self.term_scales.items()}
        else:
            terms = {name: _raw(measures[name]) for name in self.term_scales}
        if self.posterior is not None and log_ratios is not None:
            terms[POSTERIOR] = self.posterior.term(log_ratios)
        return terms

    def normals_only(self, terms: Mapping[str, Floats]) -> Floats:
        """Return the score without the classes' term."""
        parts = [scale.weight * terms[name] for name, scale in self.term_scales.items()]
        return functools.reduce(np.add, parts)

    def value(self, terms: Mapping[str, Floats]) -> Floats:
        """Return the score, higher for more abnormal; never clamped."""
        score = self.normals_only(terms)
        return score if self.posterior is None else self.posterior.value(score, terms[POSTERIOR])

    def p_value(self, value: float) -> float:
        """Return ``(1 + #{held-out normals with a score >= value}) / (n + 1)``: split-conformal (Vovk et al. 2005).

        Uniform on new normals of the same source; never below ``1 / (n + 1)``.
        """
        n = len(self.scores)
        return (1 + n - int(np.searchsorted(self.scores, value, side="left"))) / (n + 1)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that so many held-out normals allow, ``1 / (n + 1)``."""
        return 1 / (len(self.scores) + 1)

    @property
    def rate(self) -> float:
        """Share of new normals that exceed the threshold on average: the p-value of a score just above it.

        That is at most the rate asked for, but ``1 / (n + 1)`` where n held-out normals resolve no less.
        """
        return (1 + self.above(self.threshold)) / (len(self.scores) + 1)

    def verdict(self, value: float) -> str:
        """Return ``abnormal`` above the threshold, else ``normal``."""
        return "abnormal" if value > self.threshold else "normal"

    def at_rate(self, rate: float, held_out: float | None = None) -> Self:
        """Return the calibration with the threshold that at most ``rate`` of new normals exceed on average.

        ``held_out``: share of the train normals that a training holds out, to say how many the rate takes.
        Raises SettingsError if the held-out normals are too few to promise it.
        """
        if not 0 < rate < 1:
            raise SettingsError("false positive rate", f"{rate:g} is no share", "give one between 0 and 1")
        n = len(self.scores)
        if few := too_few(n, "held-out normal", rate, held_out):
            least = math.ceil(1e4 / (n + 1)) / 1e4
            raise SettingsError("false positive rate", few, f"the smallest possible is {least:g}")
        return self._at_rate(rate)

    def at_threshold(self, threshold: float) -> Self:
        """Return the calibration with a threshold that the user names; raises SettingsError if it is not finite."""
        if not math.isfinite(threshold):
            raise SettingsError("threshold", f"{threshold:g} is no score", "give a number")
        above, normals = self.above(threshold), count(len(self.scores), "held-out normal")
        rule = f"named by the user: {above:,} of {normals} {'scores' if above == 1 else 'score'} higher"
        return replace(self, threshold=threshold, rule=rule)

    def _at_rate(self, rate: float) -> Self:
        n, (rank, threshold) = len(self.scores), conformal_threshold(np.array(self.scores), rate)
        rule = f"{1 - rank / (n + 1):.1%} of new normals are expected above it (set by {count(n, 'held-out normal')})"
        return replace(self, threshold=threshold, rule=rule)

    def above(self, value: float) -> int:
        """Return how many held-out normals score higher."""
        return len(self.scores) - int(np.searchsorted(self.scores, value, side="right"))

    @property
    def map_limits(self) -> dict[str, tuple[float, float]]:
        """Low and high end of each map's colours."""
        return {name: (scale.low, scale.high) for name, scale in self.maps.items()}

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which ``from_json`` rebuilds the calibration."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError, TypeError or ValueError if they do not fit."""
        values = dict(values)
        values["term_scales"] = {name: TermScale.from_json(scale) for name, scale in values["term_scales"].items()}
        values["maps"] = {name: MapScale(**scale) for name, scale in values["maps"].items()}
        if values.get("posterior") is not None:
            values["posterior"] = Posterior.from_json(values["posterior"])
        return cls(**values)


def too_few(normals: int, what: str, rate: float, held_out: float | None = None) -> str | None:
    """Return a sentence if so many normals cannot set a rate of false alarms, None if they can: the rank needs them.

    ``held_out``: share of the train normals that they are.

    >>> too_few(12, "image", 0.05)
    '12 images cannot set a rate of 5%: 19 images are needed'
    >>> too_few(12, "held-out normal", 0.05, 0.2)
    '12 held-out normals cannot set a rate of 5%: 19 held-out normals are needed, of 95 train normals (held_out = 0.2)'
    """
    if 1 / (normals + 1) <= rate:
        return None
    needed = math.ceil(1 / rate) - 1
    of = f", of {math.ceil(needed / held_out):,} train normals (held_out = {held_out:g})" if held_out else ""
    verb = "is" if needed == 1 else "are"
    return f"{count(normals, what)} cannot set a rate of {100 * rate:.3g}%: {count(needed, what)} {verb} needed{of}"


def too_few_patients(images: int, patients: int, rate: float) -> str | None:
    """Return a sentence if a rate is set by images of few patients, None if there are as many as the rate needs images.

    >>> too_few_patients(72, 12, 0.05)
    '72 images are of 12 patients: images of a patient are alike, and the threshold is less sure than its rule says'
    """
    if patients == images or 1 / (patients + 1) <= rate:
        return None
    are = "image is" if images == 1 else "images are"
    alike = "images of a patient are alike, and the threshold is less sure than its rule says"
    return f"{images:,} {are} of {count(patients, 'patient')}: {alike}"


def fit_calibration(settings: Settings, measures: Mapping[str, Floats], maps: dict[str, MapScale]) -> Calibration:
    """Calibrate on the raw measures of held-out normals, (n,) or (n, columns) for each of the settings' terms.

    The threshold is the conformal quantile: at most ``false_positive_rate`` of new normals exceed it on average, or
    ``1 / (n + 1)`` if n held-out normals resolve no less; ``rule`` names the share.
    Raises DataError for too few normals or a term that does not vary.
    """
    n = min(len(measure) for measure in measures.values())
    if n < MIN_NORMALS:
        remedy = f"add train normals, until held_out = {settings.held_out:g} of them are {MIN_NORMALS} images or more"
        raise DataError("train/normal", f"only {n} held-out images to calibrate on", remedy)
    scales = {
        name: TermScale.fit(name, measures[name], term.weight(settings), term.two_sided(settings))
        for name, term in TERMS.items()
        if name in settings.chosen_terms
    }
    partial = Calibration(settings.standardise, scales, scores=[], threshold=math.inf, rule="", maps=maps)
    terms = partial.terms(measures)
    scales = {name: replace(scale, mean=float(terms[name].mean())) for name, scale in scales.items()}
    return _with_threshold(replace(partial, term_scales=scales), settings, partial.value(terms))


def with_posterior(
    calibration: Calibration,
    settings: Settings,
    posterior: Posterior,
    measures: Mapping[str, Floats],
    log_ratios: Floats,
) -> Calibration:
    """Return the calibration with the classes' evidence in its score, from measures of the same held-out normals."""
    partial = replace(calibration, posterior=posterior)
    return _with_threshold(partial, settings, partial.value(partial.terms(measures, log_ratios)))


def _with_threshold(partial: Calibration, settings: Settings, values: Floats) -> Calibration:
    return replace(partial, scores=np.sort(values).tolist())._at_rate(settings.false_positive_rate)


def conformal_threshold(values: Floats, rate: float) -> tuple[int, float]:
    """Return rank and value of the score (n,) that at most ``rate`` of new ones exceed on average.

    The share is ``1 / (n + 1)`` if that is more.
    """
    rank = min(len(values), math.ceil((len(values) + 1) * (1 - rate)))
    return rank, float(np.sort(values)[rank - 1])


def _raw(measure: Floats) -> Floats:
    """Return a measure without standardisation, (n,): the mean of its columns if it has some."""
    combined: Floats = measure if measure.ndim == 1 else measure.mean(axis=1)
    return combined
