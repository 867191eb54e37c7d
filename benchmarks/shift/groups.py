"""Groups of images with their raw measures, on disk or made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aeflow._types import Floats
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import PLAIN, SIDE
from aeflow.data.records import Record
from aeflow.scoring.scorer import Scorer
from benchmarks.inputs import pixels_of
from benchmarks.shift.image_traits import Greys

BATCH = 16
Raw = tuple[dict[str, Floats], Floats | None]  # measures of each term, and log-ratios of the classes


@dataclass(frozen=True, slots=True)
class Group:
    """Images with their raw measures."""

    patients: list[str]
    grey: Greys
    measures: dict[str, Floats]  # of each term, (n,) or (n, columns)
    log_ratios: Floats | None
    input_statistics: Floats

    def __len__(self) -> int:
        return len(self.patients)

    def raw(self, rows: Any = slice(None)) -> Raw:
        """Return the measures of some images, as calibrations take them."""
        measures = {name: measure[rows] for name, measure in self.measures.items()}
        return measures, None if self.log_ratios is None else self.log_ratios[rows]

    def scores(self, calibration: Calibration) -> Floats:
        """Return the calibrated scores."""
        return calibration.value(calibration.terms(*self.raw()))

    @property
    def features(self) -> Floats:
        """Return the pooled features of the encoder."""
        return self.input_statistics[:, len(PLAIN) + SIDE * SIDE :]


def greys(records: Sequence[Record], size: int) -> Greys:
    """Return grey images as the network sees them, (n, size, size)."""
    return np.stack([x[0].copy() for x in pixels_of(records, size)])


def measure_records(scorer: Scorer, records: Sequence[Record]) -> Group:
    """Measure the images of records."""
    return measure_images(scorer, greys(records, scorer.settings.image_size), [record.patient for record in records])


def measure_images(scorer: Scorer, grey: Greys, patients: list[str]) -> Group:
    """Measure images that are not on disk."""
    raws = []
    for start in range(0, len(grey), BATCH):
        x = np.repeat(grey[start : start + BATCH, None], 3, axis=1)
        raws.append(scorer.backend.run(np.ascontiguousarray(x, np.float32)))
    ratios = [raw.log_ratios for raw in raws if raw.log_ratios is not None]
    return Group(
        patients,
        grey,
        {name: np.concatenate([raw.measures[name] for raw in raws]) for name in raws[0].measures},
        np.concatenate(ratios) if ratios else None,
        np.concatenate([raw.input_statistics for raw in raws]),
    )
