"""Groups of images with their raw measures, on disk or made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import PLAIN, SIDE
from aeflow.data.loader import stream
from aeflow.data.records import Record
from aeflow.imageio.errors import ImageError
from aeflow.scoring.scorer import Scorer
from shift_traits import Greys

Floats = NDArray[np.float64]
BATCH = 16


@dataclass(frozen=True, slots=True)
class Group:
    """Images with their raw measures."""

    patients: list[str]
    grey: Greys
    flow: Floats
    reconstruction: Floats
    log_ratios: Floats | None
    traits: Floats

    def __len__(self) -> int:
        return len(self.patients)

    def raw(self, rows: Any = slice(None)) -> tuple[Floats, Floats, Floats | None]:
        """The measures of some images, as calibrations take them."""
        return self.flow[rows], self.reconstruction[rows], None if self.log_ratios is None else self.log_ratios[rows]

    def scores(self, calibration: Calibration) -> Floats:
        return calibration.value(calibration.terms(*self.raw()))

    @property
    def features(self) -> Floats:
        """Pooled features of the encoder."""
        return self.traits[:, len(PLAIN) + SIDE * SIDE :]


def greys(records: Sequence[Record], size: int) -> Greys:
    """The images as the network sees them, (n, size, size); grey ones."""
    found = []
    for _, x in stream(records, size):
        if isinstance(x, ImageError):
            raise x
        found.append(x[0].copy())
    return np.stack(found)


def of_records(scorer: Scorer, records: Sequence[Record]) -> Group:
    return of_images(scorer, greys(records, scorer.settings.image_size), [record.patient for record in records])


def of_images(scorer: Scorer, grey: Greys, patients: list[str]) -> Group:
    """Images that are not on disk, measured as any."""
    raws = []
    for start in range(0, len(grey), BATCH):
        x = np.repeat(grey[start : start + BATCH, None], 3, axis=1)
        raws.append(scorer.backend.run(np.ascontiguousarray(x, np.float32)))
    ratios = [raw.log_ratios for raw in raws if raw.log_ratios is not None]
    return Group(
        patients,
        grey,
        np.concatenate([raw.flow for raw in raws]),
        np.concatenate([raw.reconstruction for raw in raws]),
        np.concatenate(ratios) if ratios else None,
        np.concatenate([raw.input_statistics for raw in raws]),
    )
