"""Charts of a stream of scored images: other images, another share of abnormal ones, and a budget that is exceeded.

Each is a mean of Shiryaev-Roberts statistics. It passes its line at most once in that many images in the long run if
nothing changed, and begins again after each alarm. Charts hold no image and no name, and go on from ``to_json``.

``OtherImages`` asks if normals still look like the reference. Abnormal images are part of every stream, at a rate
that nobody knows, so it bets on images that look normal alone (their score is below the median of the reference),
and against a null under which up to ``CONTAMINATION`` of these are abnormal after all, and do as they like. That
images which look normal have become too rare is a bet of its own: up to ``MOST_ABNORMAL`` of all images may be
abnormal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from aeflow._types import Floats
from aeflow.calibration.held_out import SCORE
from aeflow.drift.bets import Bet, Bets, Tilt, Tilts, rate_factors
from aeflow.drift.online_ranks import OnlineRanks, OnlineRanksOfLevels
from aeflow.drift.shiryaev_roberts import EVERY, Onset, ShiryaevRoberts, onset

ALARM = 10_000.0  # images to one false alarm, at least, in the long run
CONTAMINATION = 0.05  # share of the images that look normal which may be abnormal
MOST_ABNORMAL = 0.6  # share of all images which may be: the half of the normals that looks normal is a fifth then
RARE = np.array([0.95])  # share of images that do not look normal, once hardly any does
RARITY, WEIGHT_OF_RARITY = "images that look normal", 0.1
FLAGGED = "images called abnormal"

# On inputs both families: tilts are sooner where all values move by little, steps where they gather at a few ranks.
STEPS = tuple(
    Bet(kind, share, stake)
    for kind in ("lower", "higher", "wider", "narrower")
    for share, stake in ((0.5, 0.7), (0.25, 0.6), (0.1, 0.5))
)
# A small shift, a middle and a large one, and another spread; bounds by which each gains most under CONTAMINATION.
TILTS = (
    *(Tilt(kind, *of) for kind in ("lower", "higher") for of in ((0.7, 0.9), (1.3, 0.95), (3.0, 0.985))),
    Tilt("wider", 0.35, 0.95),
    Tilt("narrower", 0.5),
)
ON_INPUTS: tuple[Bet | Tilt, ...] = (*STEPS, *TILTS)
ON_SCORES = tuple(
    Bet(kind, share, stake)
    for kind in ("lower", "higher")
    for share in (0.5, 0.25, 0.1, 0.05)
    for stake in (0.5, 0.15, 0.05)
)
OVER_BUDGET = (1.25, 1.5, 2.0, 3.0)  # times the budget


@dataclass(frozen=True, slots=True)
class Alarm:
    """Passing of a chart's line: at which image, since when, and by which statistic most."""

    at: int  # image of the chart, from 0
    onset: Onset  # likewise
    statistic: str
    kind: str  # lower, higher, wider or narrower
    evidence: dict[str, float]  # share of the evidence by statistic, the largest first


class Chart:
    """Value of a chart, its line, and the beginning again after an alarm.

    ``bets``: statistic, kind and weight of each; the weights sum to 1.
    """

    def __init__(self, line: float, bets: Sequence[tuple[str, str, float]]) -> None:
        self.line, self.value, self.images, self._start = line, 0.0, 0, 0
        self._labels = [(statistic, kind) for statistic, kind, _ in bets]
        self._weights = np.array([weight for *_, weight in bets])
        self._statistic = ShiryaevRoberts(len(bets))

    def _take(self, factors: Floats, bets: slice = EVERY) -> Alarm | None:
        """Set the value after an image with the factors of ``bets``; return the alarm if it passes the line."""
        if self.value >= self.line:
            self._start = self.images
            self._statistic.restart()
        parts = self._weights * self._statistic.update(factors, self.images, bets)
        self.value, self.images = float(parts.sum()), self.images + 1
        if self.value < self.line:
            return None
        evidence: dict[str, float] = {}
        for (name, _), part in zip(self._labels, parts, strict=True):
            evidence[name] = evidence.get(name, 0.0) + float(part) / self.value
        evidence = dict(sorted(evidence.items(), key=lambda item: -item[1]))
        first = next(iter(evidence))
        kinds: dict[str, float] = {}
        for (name, kind), part in zip(self._labels, parts, strict=True):
            kinds[kind] = kinds.get(kind, 0.0) + float(part) * (name == first)
        at = self.images - 1
        when = onset(self._statistic.moments(self._weights), self._start, at)
        return Alarm(at, when, first, max(kinds, key=kinds.__getitem__), evidence)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which ``from_json`` goes on."""
        return {
            "line": self.line,
            "value": self.value,
            "images": self.images,
            "start": self._start,
            "statistic": self._statistic.to_json(),
        }

    def _go_on(self, values: Mapping[str, Any]) -> Self:
        """Take up the state that ``to_json`` gave; raises KeyError, TypeError or ValueError if it does not fit."""
        statistic = ShiryaevRoberts.from_json(values["statistic"])
        if len(statistic.values) != len(self._labels):
            raise ValueError("a chart of other bets")
        self.value, self.images, self._start = float(values["value"]), int(values["images"]), int(values["start"])
        self._statistic = statistic
        return self


class OtherImages(Chart):
    """Chart of images that look normal, by their score and input statistics, against those of the reference normals.

    ``normals``: columns of the reference, (n,) each, ``score`` among them, of one image a patient.
    """

    def __init__(self, normals: Mapping[str, Sequence[float]], line: float = ALARM, seed: int = 0) -> None:
        self._normals = {name: list(map(float, values)) for name, values in normals.items()}
        scores = np.array(self._normals[SCORE])
        self.cut = float(np.sort(scores)[len(scores) // 2])
        looks_normal = scores < self.cut
        weight = (1 - WEIGHT_OF_RARITY) / len(normals) / len(ON_INPUTS)
        on_inputs = [(name, bet.kind, weight) for name in normals for bet in ON_INPUTS]
        super().__init__(line, [*on_inputs, (RARITY, "lower", WEIGHT_OF_RARITY)])
        self._steps, self._tilts = Bets(STEPS, CONTAMINATION), Tilts(TILTS, CONTAMINATION)
        self._ranks = {
            name: OnlineRanks(np.array(values)[looks_normal].tolist(), seed + number)
            for number, (name, values) in enumerate(self._normals.items())
        }

    def looks_normal(self, score: float) -> bool:
        """Return if an image is one of those that are compared, by its score."""
        return score < self.cut

    def update(self, row: Mapping[str, float]) -> Alarm | None:
        """Take an image's columns, which sets ``value``; a statistic that it lacks, or that is NaN, is passed over."""
        looks_normal = self.looks_normal(row[SCORE])
        rarity = rate_factors(not looks_normal, 1 - (1 - MOST_ABNORMAL) / 2, RARE)
        if not looks_normal:
            return self._take(rarity, slice(-1, None))
        values = {name: row.get(name, math.nan) for name in self._ranks}
        known = np.array([math.isfinite(value) for value in values.values()])
        ranks = np.array([self._ranks[name].add(value) for name, value in values.items() if math.isfinite(value)])
        on_inputs = np.ones((len(known), len(ON_INPUTS)))  # no gain where a statistic is lacking
        on_inputs[known] = np.hstack([self._steps.factors(ranks), self._tilts.factors(ranks)])
        return self._take(np.append(on_inputs, rarity))

    def to_json(self) -> dict[str, Any]:
        ranks = {name: one.to_json() for name, one in self._ranks.items()}
        return {**super().to_json(), "normals": self._normals, "ranks": ranks}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError, TypeError or ValueError if they do not fit."""
        chart = cls(values["normals"], float(values["line"]))
        chart._ranks = {name: OnlineRanks.from_json(values["ranks"][name]) for name in chart._ranks}
        return chart._go_on(values)


class OtherScores(Chart):
    """Chart of all scores, against those of the stream before: more images that look abnormal, or fewer.

    ``normals``: how many held-out scores the p-values are ranks among; the score counts by its p-value.
    """

    def __init__(self, normals: int, line: float = ALARM, seed: int = 0) -> None:
        super().__init__(line, [(SCORE, bet.kind, 1 / len(ON_SCORES)) for bet in ON_SCORES])
        self.normals = normals
        self._bets = Bets(ON_SCORES)
        self._ranks = OnlineRanksOfLevels(normals + 2, seed)

    def update(self, p_value: float) -> Alarm | None:
        """Take an image's p-value, which sets ``value``."""
        level = self.normals + 1 - round(p_value * (self.normals + 1))  # the more abnormal, the higher
        return self._take(self._bets.factors(self._ranks.add(level)))

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "normals": self.normals, "ranks": self._ranks.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError, TypeError or ValueError if they do not fit."""
        chart = cls(int(values["normals"]), float(values["line"]))
        chart._ranks = OnlineRanksOfLevels.from_json(values["ranks"])
        return chart._go_on(values)


class OverBudget(Chart):
    """Chart of images called abnormal, against a null of at most the share ``budget`` of all images."""

    def __init__(self, budget: float, line: float = ALARM) -> None:
        super().__init__(line, [(FLAGGED, "higher", 1 / len(OVER_BUDGET))] * len(OVER_BUDGET))
        self.budget = budget
        self._instead = np.minimum(budget * np.array(OVER_BUDGET), (1 + budget) / 2)

    def update(self, flagged: bool) -> Alarm | None:
        """Take whether an image was called abnormal, which sets ``value``."""
        return self._take(rate_factors(flagged, self.budget, self._instead))

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "budget": self.budget}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError, TypeError or ValueError if they do not fit."""
        return cls(float(values["budget"]), float(values["line"]))._go_on(values)
