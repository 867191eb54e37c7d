"""One source of images: its shares, its statistics against the reference normals, and its charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aeflow._types import Floats
from aeflow.calibration.held_out import SCORE
from aeflow.calibration.input_guard import INPUT_COLUMNS
from aeflow.drift.charts import Alarm, Chart, OtherImages, OtherScores, OverBudget
from aeflow.drift.statistics import Comparison, compare
from aeflow.metrics.intervals import grouped_wilson

SEED = 0  # of the places among equal values


@dataclass(frozen=True, slots=True)
class Share:
    """Share of images with its 95 % interval (Wilson, corrected for images of one patient)."""

    value: float
    low: float
    high: float


@dataclass(slots=True)
class Curve:
    """Values of a chart, one for each of the images that count, and its alarms."""

    line: float
    values: list[float] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)

    def take(self, chart: Chart, alarm: Alarm | None) -> None:
        """Note the value of a chart after an image."""
        self.values.append(chart.value)
        if alarm is not None:
            self.alarms.append(alarm)


@dataclass(frozen=True, slots=True)
class Stream:
    """Images in their order: figures by column (n,), and patients (n,)."""

    columns: Mapping[str, Floats]
    patients: Sequence[str]
    flagged: Floats
    outside: Floats

    def taken(self, rows: Sequence[int]) -> Stream:
        """Return some of the images."""
        at = np.asarray(rows, int)
        columns = {name: values[at] for name, values in self.columns.items()}
        patients = [self.patients[row] for row in rows]
        return Stream(columns, patients, self.flagged[at], self.outside[at])


@dataclass(slots=True)
class Source:
    """Images of a source, or of all: shares, comparisons, and charts over those that stand for their patients."""

    name: str
    images: int
    flagged: Share  # called abnormal
    outside: Share  # of the intended input
    rows: list[int]  # of the stream, one for each patient: those of the charts
    looks_normal: int  # of these; they alone are compared, but by their score
    p_values: list[float]  # of these
    comparisons: list[Comparison]
    other_images: Curve
    other_scores: Curve
    over_budget: Curve | None

    @property
    def curves(self) -> dict[str, Curve]:
        """The charts by name."""
        named = {"other_images": self.other_images, "other_scores": self.other_scores, "over_budget": self.over_budget}
        return {name: curve for name, curve in named.items() if curve is not None}


def watch(
    name: str,
    stream: Stream,
    rows: Sequence[int],
    counted: Sequence[int],
    normals: Mapping[str, Floats],
    held_out: int,
    line: float,
    budget: float | None = None,
) -> Source:
    """Return what some ``rows`` of a stream show against the normals; ``counted`` of them stand for their patients.

    ``held_out`` is the number of normals behind the p-values, ``line`` that of the charts.
    """
    own, images = stream.taken(rows), stream.taken(counted)
    watched = {column: normals[column].tolist() for column in (SCORE, *INPUT_COLUMNS.values()) if column in normals}
    charts = OtherImages(watched, line, SEED), OtherScores(held_out, line, SEED)
    over = None if budget is None else OverBudget(budget, line)
    curves = Curve(line), Curve(line)
    budgeted = None if over is None else Curve(line)
    for number in range(len(counted)):
        row = {column: float(images.columns[column][number]) for column in watched}
        curves[0].take(charts[0], charts[0].update(row))
        curves[1].take(charts[1], charts[1].update(float(images.columns["p_value"][number])))
        if over is not None and budgeted is not None:
            budgeted.take(over, over.update(bool(images.flagged[number])))
    normal = images.columns[SCORE] < charts[0].cut
    reference = normals[SCORE] < charts[0].cut
    comparisons = compare({SCORE: normals[SCORE]}, images.columns) + compare(
        {column: values[reference] for column, values in normals.items() if column != SCORE},
        {column: values[normal] for column, values in images.columns.items()},
    )
    return Source(
        name=name,
        images=len(rows),
        flagged=_share(own.flagged, own.patients),
        outside=_share(own.outside, own.patients),
        rows=list(counted),
        looks_normal=int(normal.sum()),
        p_values=images.columns["p_value"].tolist(),
        comparisons=comparisons,
        other_images=curves[0],
        other_scores=curves[1],
        over_budget=budgeted,
    )


def _share(flags: Floats, patients: Sequence[str]) -> Share:
    low, high = grouped_wilson(flags, patients)
    return Share(float(flags.mean()), low, high)
