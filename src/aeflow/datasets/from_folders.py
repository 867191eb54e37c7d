"""Public data sets whose folders name the class of an image."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aeflow.data.records import Record
from aeflow.datasets.recipe import entry
from aeflow.imageio.errors import ImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"})


def images(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    names = (name for name in os.listdir(folder) if not name.startswith("."))
    return [folder / name for name in sorted(names) if Path(name).suffix.lower() in SUFFIXES]


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Layout ``SPLIT/CLASS/*``; file names may carry patients and kinds (groups ``patient`` and ``kind``)."""

    splits: Mapping[str, str]  # folder -> split
    classes: Mapping[str, str | None]  # folder -> kind of abnormality, None if its name says it; or ``normal``
    names: re.Pattern[str] = re.compile("")

    def __call__(self, root: Path) -> list[Record]:
        """Return the records of a download; missing folders hold nothing."""
        return [
            self._record(root, path, split, kind)
            for folder, split in self.splits.items()
            for name, kind in self.classes.items()
            for path in images(root / folder / name)
        ]

    def _record(self, root: Path, path: Path, split: str, kind: str | None) -> Record:
        """Return the record of one image."""
        found = self.names.match(path.name)
        groups = {} if found is None else found.groupdict()
        if kind == "normal":
            return entry(root, path, split, 0, patient=groups.get("patient"))
        return entry(root, path, split, 1, kind or groups.get("kind"), groups.get("patient"))


def bmad(root: Path) -> list[Record]:
    """Return the records of ``{train,valid,test}/{good,Ungood}/``, with masks ``Ungood/label/`` beside ``img/`` if any.

    File names such as ``00003_60.png`` are slice 60 of patient 00003.
    """
    records = []
    for folder, split in {"train": "train", "valid": "val", "test": "test"}.items():
        for label, name in enumerate(("good", "Ungood")):
            place = root / folder / name
            for path in images(place / "img" if (place / "img").is_dir() else place):
                mask = place / "label" / path.name if label and (place / "label").is_dir() else None
                number = re.fullmatch(r"(\d+)_(\d+)", path.stem)
                patient, position = (None, None) if number is None else (number[1], float(number[2]))
                records.append(entry(root, path, split, label, None, patient, mask, position))
    return records


def mvtec(root: Path) -> list[Record]:
    """Return the records of a category in the layout of MVTec AD; a defect is a kind.

    ``{train,test}/good/``, ``test/DEFECT/`` and ``ground_truth/DEFECT/NAME_mask.png``.
    """
    records = [entry(root, p, split, 0) for split in ("train", "test") for p in images(root / split / "good")]
    for folder in sorted(part for part in (root / "test").iterdir() if part.is_dir() and part.name != "good"):
        masks = root / "ground_truth" / folder.name
        for path in images(folder):
            mask = masks / f"{path.stem}_mask.png" if masks.is_dir() else None
            records.append(entry(root, path, "test", 1, folder.name, mask=mask))
    return records


def masks_beside(root: Path) -> list[Record]:
    """Return the records of images with a mask file beside each: abnormal if the mask marks something.

    ``PATIENT/PATIENT_SLICE.tif`` and ``PATIENT/PATIENT_SLICE_mask.tif``.
    """
    from aeflow.data.loader import ahead_of
    from aeflow.imageio.decoder_pool import decoders
    from aeflow.imageio.reader import read_mask

    pool = decoders()
    folders = (folder for folder in sorted(root.glob("TCGA_*")) if folder.is_dir())
    paths = [path for folder in folders for path in images(folder) if not path.stem.endswith("_mask")]
    masks = [path.with_name(f"{path.stem}_mask{path.suffix}") for path in paths]
    records = []
    marked = ahead_of(masks, lambda mask: pool.submit(read_mask, mask))
    for path, (mask, found) in zip(paths, marked, strict=True):
        if isinstance(found, ImageError):
            raise found
        label = int(found.any())
        place = path.stem.rpartition("_")[2]
        position = float(place) if place.isdigit() else None
        records.append(entry(root, path, None, label, None, path.parent.name, mask if label else None, position))
    return records
