"""Labels of a worklist as records to train on: the images that the service keeps, and masks of the drawn regions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from aeflow.data.records import Record
from aeflow.errors import DataError, count
from aeflow.imageio.image import Slice
from aeflow.imageio.reader import kind_of
from aeflow.privacy import pseudonym
from aeflow.serve.database import FILE, Database
from aeflow.serve.intake import IMAGES
from aeflow.serve.labels import AgreedLabel, Labels, mask_of

MASKS = "masks"  # folder beside the images


def labelled_records(worklist: Path, known: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return the images on which readers agree, as train images, and what the user should know.

    ``worklist``: the file of the service, or its folder. ``known``: images of the data folder, whose patients are
    recognised by their pseudonyms. Raises DataError if there is no worklist, or nobody has labelled anything.
    """
    file = worklist / FILE if worklist.is_dir() else worklist
    if not file.is_file():
        raise DataError(worklist, "is no worklist", f"name the {FILE} of aeflow serve")
    database = Database(file)
    try:
        found, disputed = Labels(database).agreed()
    finally:
        database.close()
    if not found:
        raise DataError(file, "no reader has called an image normal or abnormal", "label some first")
    patients = {pseudonym(record.patient): record.patient for record in known}  # with --identify they are themselves
    records = [_record(file.parent, one, patients) for one in found]
    there = [record for record in records if record.path.is_file()]
    notes = [f"{count(disputed, 'labelled image')} left out: readers are unsure or disagree"] if disputed else []
    if missing := len(records) - len(there):
        notes.append(f"{count(missing, 'labelled image')} left out: not in {file.parent / IMAGES} any more")
    return there, notes


def _record(folder: Path, one: AgreedLabel, patients: dict[str, str]) -> Record:
    """Return the record of a labelled image, whose mask is written if regions were drawn."""
    image, name = one.image, f"readers/{one.image.content[:16]}-{one.image.slice}"
    path = folder / IMAGES / image.content[:2] / image.content
    headed = path.is_file() and kind_of(path) == "headed"  # its header says more than the worklist may keep
    patient = name if headed else patients.get(image.patient, image.patient)
    at = Slice(image.slice - 1, image.axis or None) if image.slice else None
    label = 0 if one.label == "normal" else 1
    mask = _mask(folder, one) if one.regions and at is None else None  # a picture is no mask of a volume
    return Record(path, name, "train", label, patient, one.kind or None, mask, at=at)


def _mask(folder: Path, one: AgreedLabel) -> Path:
    """Write the mask of the drawn regions beside the images, and return its place."""
    place = folder / MASKS / f"{one.image.content}.png"
    place.parent.mkdir(mode=0o700, exist_ok=True)
    mask = mask_of(one.regions, one.image.height, one.image.width)
    if not place.is_file() or not np.array_equal(np.asarray(PIL.Image.open(place)), mask):
        part = place.with_suffix(".part")
        PIL.Image.fromarray(mask).save(part, "png")
        part.replace(place)
    return place
