"""Scores of studies from those of their slices, with the slices that score highest.

The p-value is Simes's: ``min_k n p_(k) / k`` over the rising p-values of the ``n`` slices (Simes 1986), valid if they
depend on one another positively (Sarkar 1998), as slices of one patient do. The score, which only ranks, is the mean
over the highest tenth of the slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from aeflow.calibration.calibration import Calibration
from aeflow.data.records import Record
from aeflow.errors import count
from aeflow.imageio.errors import EmptyImageError, ImageError
from aeflow.scoring.scorer import Score

TOP_SHARE = 0.1  # of the slices, whose mean is the study's score
MAX_NAMED_SLICES = 5  # slices that are named
TIE = 1e-9  # relative: a p-value that is the rate but for rounding


@dataclass(frozen=True, slots=True)
class Study:
    """Result of a study from all its slices."""

    study: str  # raw key
    patient: str  # raw key
    label: int | None  # 1 if any slice is abnormal
    images: int
    refused: int
    score: float
    p_value: float
    verdict: str
    rows: list[int]  # of the table of scores, from 1, the highest scores first


def simes(p_values: Sequence[float]) -> float:
    """Return ``min_k n p_(k) / k``, at most 1.

    >>> simes([0.01, 0.2, 0.6, 0.9])
    0.04
    >>> simes([0.5, 0.5, 0.5])  # three slices that agree count no less than one
    0.5
    """
    p = np.sort(np.asarray(p_values, dtype=float))
    return float(min(1.0, (len(p) * p / np.arange(1, len(p) + 1)).min()))


def hardly_ever(calibration: Calibration) -> str | None:
    """Return a sentence if only a study of which every slice is extreme is called abnormal, None if fewer suffice.

    Of ``n`` slices as rare as p-values can say, ``1 / (N + 1)`` of ``N`` held-out normals, Simes's rule takes
    ``n / (N + 1) / rate``: all of them where no held-out normal lies above the threshold.
    """
    if calibration.above(calibration.threshold):
        return None
    normals = count(len(calibration.scores), "held-out normal")
    return f"a study is called abnormal only if all its slices score above all {normals}: more of these allow for less"


class ScoredSlice(NamedTuple):
    """What a study keeps of one of its slices."""

    row: int  # of the table of scores, from 1
    patient: str
    label: int | None
    score: float
    p_value: float


@dataclass
class Studies:
    """Collector of slices as they are scored; it keeps a few numbers each."""

    rate: float  # of normal studies that are called abnormal, as ``Calibration.rate`` is of images
    found: dict[str, list[ScoredSlice]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    def add(self, row: int, record: Record, result: Score | ImageError) -> None:
        """Add a slice, at ``row`` of the table; images of no study, and empty slices, are passed over."""
        if record.study is None or isinstance(result, EmptyImageError):
            return
        if isinstance(result, ImageError):
            self.add_refused(record.study)
        else:
            found = ScoredSlice(row, record.patient, record.label, result.value, result.p_value)
            self.add_scored(record.study, found)

    def add_scored(self, study: str, found: ScoredSlice) -> None:
        """Add a slice that has a score."""
        self.found.setdefault(study, []).append(found)

    def add_refused(self, study: str) -> None:
        """Count a slice that was refused."""
        self.refused[study] = self.refused.get(study, 0) + 1

    def results(self) -> list[Study]:
        """Return every study of more than one scored image, in the order of their first ones."""
        return [self._study(key, slices) for key, slices in self.found.items() if len(slices) > 1]

    def _study(self, key: str, slices: list[ScoredSlice]) -> Study:
        falling = sorted(slices, key=lambda one: -one.score)
        top = falling[: max(1, math.ceil(TOP_SHARE * len(slices)))]
        p = simes([one.p_value for one in slices])
        labels = {one.label for one in slices}
        return Study(
            study=key,
            patient=slices[0].patient,
            label=1 if 1 in labels else 0 if labels == {0} else None,
            images=len(slices),
            refused=self.refused.get(key, 0),
            score=float(np.mean([one.score for one in top])),
            p_value=p,
            verdict="abnormal" if p <= self.rate * (1 + TIE) else "normal",
            rows=[one.row for one in falling[:MAX_NAMED_SLICES]],
        )
