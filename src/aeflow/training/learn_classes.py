"""Labelled set of a training, and the classes learnt from it: normals, drawn abnormal images, unlabelled ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from aeflow.config import Settings
from aeflow.data.augment import recapture
from aeflow.data.plain_folders import TrainingData, place_of
from aeflow.data.records import Record, Refusals, of_label
from aeflow.data.splits import leave_out_patients, shared_patients
from aeflow.errors import DataError, count
from aeflow.features.arithmetic import Arithmetic
from aeflow.features.cache import FeatureCache
from aeflow.imageio.errors import ImageError
from aeflow.model.front import Front, Pooled
from aeflow.runtime.progress import bar
from aeflow.training.class_mixture_em import Examples, MixtureFit, Pool, fit_class_mixture

ANY_KIND = "abnormal"  # the kind of abnormal images for which none is named


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Images to learn the classes from, in the order of ``labels``: 0 normal, 1 and up a kind, -1 unlabelled."""

    records: list[Record]
    labels: list[int]
    kinds: list[str]
    left_out: int  # train images whose patients are in the test split, or among the held-out normals


def not_learnt_from(train: Sequence[Record]) -> str | None:
    """Return which train images a model of normals alone leaves aside, and the option that takes them; None if none."""
    abnormal, unlabelled = (len(of_label(train, label)) for label in (1, None))
    there = [(abnormal, "abnormal"), (unlabelled, "unlabelled")]
    images = " and ".join(count(number, f"{name} train image") for number, name in there if number)
    some = " (--labels N: from N of them)" if abnormal > 1 else ""
    return f"the model does not learn from {images}: with --classifier mixture it does{some}" if images else None


def choose_labelled_set(
    data: TrainingData, train: Sequence[Record], test: Sequence[Record], known: Sequence[Record], settings: Settings
) -> LabelledSet:
    """Return the ``known`` normals, ``settings.labels`` abnormal images drawn by the seed, and the unlabelled ones.

    Images of patients of the test split and of the held-out normals are left out. Raises DataError if there are fewer
    abnormal images than asked for.
    """
    others = [r for r in train if r.label != 0]
    held_out = leave_out_patients(of_label(train, 0), {r.patient for r in known})
    free = leave_out_patients(others, shared_patients(others, [*test, *held_out]))
    abnormal = sorted(of_label(free, 1), key=lambda r: _key(settings.seed, r.name))
    wanted = len(abnormal) if settings.labels is None else settings.labels
    if wanted > len(abnormal):
        labelled = count(len(abnormal), "labelled abnormal image")
        found = f"{labelled} of patients outside the test split, {wanted:,} asked for"
        raise DataError(place_of(data, 1), found, "ask for fewer with --labels, or label more")
    drawn, rest = abnormal[:wanted], abnormal[wanted:]
    pool = of_label(free, None) + (sorted(rest, key=lambda r: r.name) if settings.undrawn else [])
    kinds = sorted({record.kind or ANY_KIND for record in drawn}) or [ANY_KIND]
    labels = [0] * len(known) + [1 + kinds.index(record.kind or ANY_KIND) for record in drawn] + [-1] * len(pool)
    return LabelledSet([*known, *drawn, *pool], labels, kinds, len(others) - len(free))


def read_examples(
    labelled_set: LabelledSet, front: Front, settings: Settings, arithmetic: Arithmetic | None = None
) -> tuple[LabelledSet, Examples, list[tuple[Record, ImageError]]]:
    """Return the labelled set without the images that were refused, its pooled features, and the refusals."""
    pooled = Pooled(front, settings.class_stages)
    cache = FeatureCache(pooled, settings.image_size, change=recapture, arithmetic=arithmetic)
    with bar("Classes", 2 * len(labelled_set.records)) as advance:
        plain, refusals = cache.features(labelled_set.records, advance)
        again, _ = cache.features(plain.records, advance, view=1)
    kept = without_refused(labelled_set, refusals)
    patients = [record.patient for record in kept.records]
    return kept, Examples(plain.vectors(), again.vectors(), np.array(kept.labels, dtype=np.int64), patients), refusals


def without_refused(labelled_set: LabelledSet, refusals: Refusals) -> LabelledSet:
    """Return the labelled set without the images that were refused."""
    refused = {record for record, _ in refusals}
    pairs = zip(labelled_set.records, labelled_set.labels, strict=True)
    kept = [(record, label) for record, label in pairs if record not in refused]
    records, labels = [record for record, _ in kept], [label for _, label in kept]
    return replace(labelled_set, records=records, labels=labels)


def _key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class LearntClasses:
    """Classes of a training, over pooled features or pooled latents, and what they were learnt from."""

    labelled_set: LabelledSet
    classes: MixtureFit | None  # over latents it is the start of the prior that was learnt
    pool: Pool | None

    def to_json(self) -> dict[str, Any]:
        """Return counts for the model's file."""
        kinds = {kind: self.labelled_set.labels.count(1 + i) for i, kind in enumerate(self.labelled_set.kinds)}
        return {
            "labelled_images": {kind: count for kind, count in kinds.items() if count},
            "left_out_images": self.labelled_set.left_out,
            "unlabelled": None if self.pool is None else asdict(self.pool),
        }

    def notes(self) -> list[str]:
        """Return what the user should know."""
        notes = [self.pool.finding] if self.pool is not None else []
        if self.labelled_set.left_out:
            reason = "their patients are in the test split, or held out"
            notes.append(f"{count(self.labelled_set.left_out, 'train image')} left out: {reason}")
        if self.classes is None:
            notes.append("nothing to learn classes from; this is the normals-only model")
        return notes


def learn_classes(
    data: TrainingData,
    records: tuple[Sequence[Record], Sequence[Record]],
    known: Sequence[Record],
    settings: Settings,
    front: Front,
    arithmetic: Arithmetic | None = None,
) -> tuple[LearntClasses, Refusals]:
    """Learn the classes from known normals, drawn abnormal images and unlabelled ones, as ``front`` sees them.

    ``records``: those of the train split, and those of the test split.
    """
    labelled_set = choose_labelled_set(data, *records, known, settings)
    if not any(labelled_set.labels):
        return LearntClasses(labelled_set, None, None), []
    labelled_set, examples, refusals = read_examples(labelled_set, front, settings, arithmetic)
    if 0 not in labelled_set.labels:
        raise DataError(place_of(data, 0), "no image can be read", f"the first: {refusals[0][1]}")
    return LearntClasses(labelled_set, *fit_class_mixture(examples, labelled_set.kinds, settings)), refusals
