"""Measured images of the study: normals that the model never saw, also by other scanners, and abnormal ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import aeflow
from aeflow._types import Floats
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out
from aeflow.deploy.open_model import open_model
from aeflow.runtime.folders import scratch
from aeflow.scoring.scorer import Scorer
from benchmarks.inputs import pixels_of
from benchmarks.studies.drift.scanners import SCANNERS

UNSEEN = 0.5  # share of the train normals that are kept from the model
MOST_ABNORMAL = 400  # train-side abnormal images
MOST_CHANGED = 250  # unseen normals that other scanners take, evenly chosen
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


def measure(scorer: Scorer, data: Path, seed: int) -> Measured:
    """Measure the unseen normals, one a patient, as they are and by each scanner, and abnormal images."""
    _, unseen = unseen_normals(data, seed)
    first = {record.patient: record for record in reversed(unseen)}
    size = scorer.settings.image_size
    normals = list(pixels_of(sorted(first.values(), key=lambda record: record.name), size))
    sick = evenly(of_label(read_records(data, "train"), 1), MOST_ABNORMAL)
    columns, plain = _rows(scorer, normals)
    groups = {PLAIN: plain, ABNORMAL: _rows(scorer, list(pixels_of(sick, size)))[1]}
    for name, scanner in SCANNERS.items():
        chosen = evenly(list(enumerate(normals)), MOST_CHANGED)
        groups[name] = _rows(scorer, [scanner(x, number) for number, x in chosen])[1]
    return Measured(columns, groups)


def kept(place: Path, make: Callable[[], Measured]) -> Measured:
    """Return what a file keeps, or measure and keep it there."""
    if not place.exists():
        measured = make()
        np.savez(place, columns=np.array(measured.columns), **measured.groups)
        return measured
    with np.load(place) as found:
        groups = {name: found[name] for name in found if name != "columns"}
        return Measured(tuple(found["columns"].tolist()), groups)


def _rows(scorer: Scorer, images: Sequence[np.ndarray]) -> tuple[tuple[str, ...], Floats]:
    """Return the names of the columns, and those of images (3, H, W)."""
    found: list[Floats] = []
    names: tuple[str, ...] = ()
    for start in range(0, len(images), BATCH):
        raw = scorer.backend.run(np.ascontiguousarray(np.stack(images[start : start + BATCH]), np.float32))
        terms = scorer.calibration.terms(raw.measures, raw.log_ratios)
        columns = {"score": scorer.calibration.value(terms), **scorer.input_guard.columns(raw.input_statistics)}
        names = tuple(columns)
        found.append(np.stack(list(columns.values()), axis=1))
    return names, np.concatenate(found)
