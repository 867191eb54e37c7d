"""Measured images of the study: normals that the model never saw, also by other scanners, and abnormal ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

import aeflow
from aeflow._types import Floats, Floats32
from aeflow.calibration.held_out import SCORE
from aeflow.calibration.input_guard import INPUT_COLUMNS
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out
from aeflow.deploy.open_model import open_model
from aeflow.runtime.folders import scratch
from aeflow.scoring.scorer import Scorer
from benchmarks.inputs import pixels_of
from benchmarks.studies.drift.scanners import SCANNERS, Scanner

UNSEEN = 0.5  # share of the train normals that are kept from the model
MOST_NORMAL, MOST_ABNORMAL = 400, 200  # images, evenly chosen
MOST_CHANGED = 120  # normals that each scanner takes
BATCH = 16
PLAIN, ABNORMAL = "as they are", "abnormal"


@dataclass(frozen=True, slots=True)
class Measured:
    """Columns of tables of scores by group, (n, columns), of one image a patient."""

    columns: tuple[str, ...]
    groups: dict[str, Floats]


def unseen_normals(data: Path, seed: int) -> tuple[list[Record], list[Record]]:
    """Return the train normals to train on, and those kept from the model, of other patients."""
    return hold_out(of_label(read_records(data, "train"), 0), UNSEEN, seed)


def trained(data: Path, run: Path, seed: int) -> Scorer:
    """Return a model of the first half of the train normals for diffuse change, trained if it is not there."""
    if not run.exists():
        kept, _ = unseen_normals(data, seed)
        with scratch(run.parent, "drift-images") as folder:
            place = folder / "train" / "normal"
            place.mkdir(parents=True)
            for record in kept:  # under their names, which say the patient
                (place / record.path.name).symlink_to(record.path.resolve())
            aeflow.train(folder, run, seed=seed, looks_for="diffuse")
    return open_model(run)


def measure(scorer: Scorer, data: Path, seed: int, place: Path) -> Measured:
    """Measure unseen normals, one a patient, as they are and by each scanner, and abnormal images.

    Each group is kept as a file in ``place``, and taken from there the next time.
    """
    place.mkdir(parents=True, exist_ok=True)
    _, unseen = unseen_normals(data, seed)
    first = {record.patient: record for record in reversed(unseen)}
    records = evenly(sorted(first.values(), key=lambda record: record.name), MOST_NORMAL)
    sick = evenly(of_label(read_records(data, "train"), 1), MOST_ABNORMAL)
    size = scorer.settings.image_size
    groups: dict[str, Callable[[], Iterator[Floats32]]] = {
        PLAIN: lambda: pixels_of(records, size),
        ABNORMAL: lambda: pixels_of(sick, size),
        **{name: partial(_changed, scanner, records, size) for name, scanner in SCANNERS.items()},
    }
    measured = {}
    for name, images in groups.items():
        file = place / f"{name.replace('%', 'percent')}.npy"
        if not file.exists():
            np.save(file, _rows(scorer, images()))
        measured[name] = np.load(file)
    return Measured((SCORE, *INPUT_COLUMNS.values()), measured)


def _changed(scanner: Scanner, records: Sequence[Record], size: int) -> Iterator[Floats32]:
    """Yield some of the normals by a scanner."""
    for number, x in enumerate(pixels_of(evenly(records, MOST_CHANGED), size)):
        yield scanner(x, number)


def _rows(scorer: Scorer, images: Iterator[Floats32]) -> Floats:
    """Return the columns of images."""
    found: list[Floats] = []
    while batch := list(islice(images, BATCH)):
        raw = scorer.backend.run(np.ascontiguousarray(np.stack(batch), np.float32))
        terms = scorer.calibration.terms(raw.measures, raw.log_ratios)
        inputs = scorer.input_guard.columns(raw.input_statistics)
        found.append(np.stack([scorer.calibration.value(terms), *inputs.values()], axis=1))
    return np.concatenate(found)
