"""Local normal images of a recalibration, and the place of its model: what is checked before torch is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aeflow.data.folder_files import LABELS
from aeflow.data.records import Record, each_once, find_images
from aeflow.errors import ArtifactError, DataError, count
from aeflow.imageio.reader import kind_of
from aeflow.runtime.folders import foreign

MIN_LOCAL_NORMALS = 20  # about as many as a threshold of one in twenty needs


def local_normals(given: Sequence[Path | str]) -> list[Record]:
    """Return the images of files and folders; DataError for a folder of several classes, or for too few images."""
    others = {name for name, label in LABELS.items() if label != 0}
    for path in map(Path, given):
        records = find_images([path])
        if any(others & set(record.path.relative_to(path).parts[:-1]) for record in records):
            found = f"a folder that holds {' or '.join(sorted(others))} images, too"
            raise DataError(path, found, "give its folder of normal images alone")
    records = each_once(find_images(given))
    if len(records) < MIN_LOCAL_NORMALS and all(kind_of(record.path) == "plain" for record in records):
        check_enough(len(records), "image")  # no file of them holds several
    return records


def check_enough(number: int, what: str, reason: str = "") -> None:
    """Raise DataError for too few normals."""
    if number < MIN_LOCAL_NORMALS:
        remedy = f"give {MIN_LOCAL_NORMALS} or more, of as many patients as you can; 100 are better"
        raise DataError("normals", f"{count(number, what)}{reason}", remedy)


def check_place(target: Path) -> None:
    """Raise ArtifactError if something is where the recalibrated model is to be written."""
    if (target.exists() and not target.is_dir()) or foreign(target):
        raise ArtifactError(target, "is there already", "choose another --out")
