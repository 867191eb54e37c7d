"""Which train images teach the classes: known normals, abnormal images drawn by the seed, and unlabelled ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aeflow.classes import Examples
from aeflow.config import Settings
from aeflow.data.augment import recapture
from aeflow.data.records import Record, of_label
from aeflow.data.split import leave_out_patients, shared_patients
from aeflow.errors import DataError, ImageError
from aeflow.features import FeatureCache
from aeflow.model.encoder import Encoder
from aeflow.model.pooled import Pooled
from aeflow.progress import bar

ANY_KIND = "abnormal"  # the kind of abnormal images for which none is named


@dataclass(frozen=True, slots=True)
class Lesson:
    """The images that teach, in the order of ``labels``: 0 normal, 1 and up a kind, -1 unlabelled."""

    records: list[Record]
    labels: list[int]
    kinds: list[str]
    left_out: int  # train images whose patients are in the test split, or among the held-out normals


def choose(
    data: Path | str, train: Sequence[Record], test: Sequence[Record], known: Sequence[Record], settings: Settings
) -> Lesson:
    """The lesson of a data folder: the ``known`` normals, ``settings.labels`` abnormal images, the unlabelled ones.

    Patients of the test split and of the held-out normals teach nothing. Raises DataError where fewer abnormal images
    are there than asked for.
    """
    others = [r for r in train if r.label != 0]
    held_out = leave_out_patients(of_label(train, 0), {r.patient for r in known})
    free = leave_out_patients(others, shared_patients(others, [*test, *held_out]))
    abnormal = sorted(of_label(free, 1), key=lambda r: _key(settings.seed, r.name))
    count = len(abnormal) if settings.labels is None else settings.labels
    if count > len(abnormal):
        found = f"{len(abnormal)} labelled abnormal images of patients outside the test split, {count} asked for"
        raise DataError(Path(data) / "train" / "abnormal", found, "ask for fewer with --labels, or label more")
    drawn, rest = abnormal[:count], abnormal[count:]
    pool = of_label(free, None) + (sorted(rest, key=lambda r: r.name) if settings.undrawn else [])
    kinds = sorted({record.kind or ANY_KIND for record in drawn}) or [ANY_KIND]
    labels = [0] * len(known) + [1 + kinds.index(record.kind or ANY_KIND) for record in drawn] + [-1] * len(pool)
    return Lesson([*known, *drawn, *pool], labels, kinds, len(others) - len(free))


def read(
    lesson: Lesson, encoder: Encoder, settings: Settings
) -> tuple[Lesson, Examples, list[tuple[Record, ImageError]]]:
    """The pooled features of a lesson, the lesson without the images that were refused, and the refusals."""
    cache = FeatureCache(Pooled(encoder), settings.image_size, change=recapture)
    with bar("Classes", 2 * len(lesson.records)) as advance:
        plain, refusals = cache.features(lesson.records, advance)
        again, _ = cache.features(plain.records, advance, view=1)
    refused = {record for record, _ in refusals}
    labels = [label for record, label in zip(lesson.records, lesson.labels, strict=True) if record not in refused]
    kept = Lesson(plain.records, labels, lesson.kinds, lesson.left_out)
    patients = [record.patient for record in plain.records]
    return kept, Examples(plain.vectors(), again.vectors(), np.array(labels, dtype=np.int64), patients), refusals


def _key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
