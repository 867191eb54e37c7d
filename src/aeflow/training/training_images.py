"""Images of a training: those of a data folder, by the part that each has in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aeflow.calibration.calibration import MIN_NORMALS
from aeflow.config import Settings
from aeflow.data.leakage import Leakage, leakage, refuse_leakage
from aeflow.data.plain_folders import TrainingData, place_of, records_of
from aeflow.data.records import Record, of_label
from aeflow.data.slices import unfold
from aeflow.data.splits import evenly, hold_out
from aeflow.errors import DataError, count
from aeflow.imageio.reader import kind_of

MAX_WATCHED = 100  # train abnormal images whose scores are drawn epoch by epoch; nothing is decided on them


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The images of a data folder, by the part each has in a training."""

    train: list[Record]  # every image of the train split
    test: list[Record]
    kept: list[Record]  # train normals that the flow learns from
    held_out: list[Record]  # train normals that decide when to stop, and calibrate
    watched: list[Record]  # train abnormal images whose scores are only drawn
    leaked: Leakage

    def encoded(self, settings: Settings) -> int:
        """Return the number of images that a training computes features of, cached or not, synthetic ones included."""
        from aeflow.training.fit_terms import images_of  # imports torch, which ``check_number`` does without

        synthetic = images_of(len(self.kept)) if settings.describes else 0
        return (1 + settings.augmented_views) * len(self.kept) + len(self.held_out) + len(self.watched) + synthetic


def read_images(data: TrainingData, settings: Settings) -> TrainingImages:
    """Return the images of a data folder by their part; raises DataError for too few normals, or leaked ones."""
    records = unfold(records_of(data, "train"), settings.slice_axis)
    normals = of_label(records, 0, at_least=2, where=place_of(data, 0))
    test = unfold([r for r in records_of(data) if r.split == "test"], settings.slice_axis)
    leaked = leakage(normals, test)
    if not settings.allow_leakage:
        refuse_leakage(data, leaked)
    kept, held_out = _divided(normals, data, settings)
    return TrainingImages(records, test, kept, held_out, evenly(of_label(records, 1), MAX_WATCHED), leaked)


def _divided(normals: list[Record], data: TrainingData, settings: Settings) -> tuple[list[Record], list[Record]]:
    """Return train normals to learn from and to hold out; DataError, before minutes go into them, for too few."""
    kept, held_out = hold_out(normals, settings.held_out, settings.seed)
    if len(kept) < 2 or len(held_out) < MIN_NORMALS:
        what = f"{count(len(kept), 'image')} to train on and {len(held_out)} to hold out"
        raise DataError(place_of(data, 0), what, more_normals(settings))
    return kept, held_out


def check_number(data: TrainingData, settings: Settings) -> None:
    """Raise DataError for what the files alone show, before torch is imported: a wrong folder, or too few normals."""
    normals = of_label([record for record in records_of(data) if record.split == "train"], 0)
    if 2 <= len(normals) < _needed(settings) and all(kind_of(record.path) == "plain" for record in normals):
        _divided(normals, data, settings)  # no file of them holds several images


def _needed(settings: Settings) -> int:
    """Return the number of normals of which enough are held out."""
    return math.ceil(MIN_NORMALS / settings.held_out)


def more_normals(settings: Settings) -> str:
    """Return the remedy for too few train normals."""
    return f"give at least {_needed(settings)} normal images, no copies of one another"
