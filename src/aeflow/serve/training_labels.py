"""Labels of a worklist as records to train on: the images that the service keeps, and masks of the drawn regions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from aeflow.data.records import Record
from aeflow.errors import DataError, count
from aeflow.imageio.image import Slice
from aeflow.imageio.reader import kind_of
from aeflow.privacy import pseudonym
from aeflow.serve.database import FILE, Database
from aeflow.serve.drawn_masks import write_picture, write_volume
from aeflow.serve.intake import IMAGES
from aeflow.serve.labels import AgreedLabel, Labels

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
    there = [one for one in found if _path(file.parent, one).is_file()]
    masks = _masks(file.parent, there)
    records = [_record(file.parent, one, patients, masks.get(one.image.id)) for one in there]
    notes = [f"{count(disputed, 'labelled image')} left out: readers are unsure or disagree"] if disputed else []
    if missing := len(found) - len(there):
        notes.append(f"{count(missing, 'labelled image')} left out: not in {file.parent / IMAGES} any more")
    return records, notes


def _path(folder: Path, one: AgreedLabel) -> Path:
    """Return where the file of a labelled image is kept."""
    content: str = one.image.content
    return folder / IMAGES / content[:2] / content


def _place(one: AgreedLabel) -> Slice | None:
    """Return the place of a labelled image in its file; None if the file holds one image."""
    return Slice(one.image.slice - 1, one.image.axis or None) if one.image.slice else None


def _record(folder: Path, one: AgreedLabel, patients: dict[str, str], mask: Path | None) -> Record:
    """Return the record of a labelled image."""
    image, name = one.image, f"readers/{one.image.content[:16]}-{one.image.slice}"
    path = _path(folder, one)
    headed = kind_of(path) == "headed"  # its header says more than the worklist may keep
    patient = name if headed else patients.get(image.patient, image.patient)
    label = 0 if one.label == "normal" else 1
    return Record(path, name, "train", label, patient, one.kind or None, mask, at=_place(one))


def _masks(folder: Path, found: Sequence[AgreedLabel]) -> dict[str, Path]:
    """Write the masks of all drawn regions beside the images, and return that of each image by its identifier.

    The slices of a volume share one.
    """
    drawn: dict[str, list[AgreedLabel]] = defaultdict(list)
    for one in found:
        if one.regions:
            drawn[one.image.content].append(one)
    masks: dict[str, Path] = {}
    for content, parts in drawn.items():
        image = parts[0].image
        if not image.slice:
            place = folder / MASKS / f"{content}.png"
            write_picture(place, parts[0].regions, image.height, image.width)
        else:
            place = folder / MASKS / f"{content}.nii.gz"
            regions = {at: one.regions for one in parts if (at := _place(one)) is not None}
            write_volume(place, _path(folder, parts[0]), regions, image.height, image.width)
        masks |= {one.image.id: place for one in parts}
    return masks
