"""Train images in plain folders, without a split: normal, abnormal and unlabelled ones in folders of their own.

::

    NORMALS/*                   images and nothing else: all are normal
    NORMALS/PATIENT/**          with --all-normal: a folder a patient, all of it normal
    --abnormal DIR/*            images and nothing else: all are abnormal, of one kind
    --unlabelled DIR/*          images and nothing else: nobody knows

Who has a data folder (``records``) names that alone. What looks like a slip of the two is refused, with the command
that was meant.
"""

from __future__ import annotations

import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from aeflow.data.folder_files import LABELS, MANIFEST, entries_of, images_in
from aeflow.data.leakage import copies
from aeflow.data.records import SPLITS, Record, data_folder_around, label_name, patient_of, read_records
from aeflow.errors import DataError, check_path, count
from aeflow.privacy import REMEDY_IDENTIFY, shown_few

Folders = Path | str | Sequence[Path | str]


class ImageSource(ABC):
    """Base of what a training may learn from beside a data folder."""

    __slots__ = ()

    @abstractmethod
    def __fspath__(self) -> str:
        """Return the folder that stands for it in messages."""

    @abstractmethod
    def records(self) -> list[Record]:
        """Return all its images."""

    @abstractmethod
    def place_of(self, label: int | None) -> Path:
        """Return the folder where train images of a label belong, for messages."""

    @property
    @abstractmethod
    def implied_settings(self) -> dict[str, Any]:
        """The changes of settings that it stands for."""


@dataclass(frozen=True, slots=True)
class PlainFolders(ImageSource):
    """Folders of train images, each of one label; as a path it is the folder of the normal ones.

    With ``all_normal`` the latter holds folders, each with all that is below it of one patient.
    """

    normals: Path
    abnormal: tuple[Path, ...] = ()
    unlabelled: tuple[Path, ...] = ()
    all_normal: bool = False

    def __fspath__(self) -> str:
        return os.fspath(self.normals)

    def __str__(self) -> str:
        return str(self.normals)

    def of(self, label: int | None) -> tuple[Path, ...]:
        """Return the folders of a label."""
        return {0: (self.normals,), 1: self.abnormal, None: self.unlabelled}[label]

    def records(self) -> list[Record]:
        """Return the images of all folders, as those of the train split."""
        return [record for label in LABELS.values() for record in self._labelled(label)]

    def _labelled(self, label: int | None) -> Iterator[Record]:
        """Yield the images of a label; a normal one is named as in a training on the normals alone."""
        for number, folder in enumerate(self.of(label), 1):
            for path in images_in(folder):
                within = path.relative_to(folder)
                name = within.as_posix() if label == 0 else f"{label_name(label)}/{number}/{path.name}"
                inside = self.all_normal and label == 0 and len(within.parts) > 1
                patient = within.parts[0] if inside else patient_of(name)
                yield Record(path, name, "train", label, patient, None, None)

    def place_of(self, label: int | None) -> Path:
        """Return the folder of a label; that of the normal images if there is none."""
        return (*self.of(label), self.normals)[0]

    @property
    def implied_settings(self) -> dict[str, Any]:
        """All labels are learnt from, unless ``labels`` says otherwise."""
        return {"labels": None} if self.abnormal or self.unlabelled else {}

    def command(self) -> str:
        """Return the command that trains on these folders."""
        words = [("--abnormal", folder) for folder in self.abnormal]
        words += [("--unlabelled", folder) for folder in self.unlabelled]
        flag = ("--all-normal",) if self.all_normal else ()
        return _command(self.normals, *flag, *(str(word) for pair in words for word in pair))


TrainingData = Path | str | ImageSource


def implied_settings(data: TrainingData) -> dict[str, Any]:
    """Return the changes of settings that the data stand for."""
    return data.implied_settings if isinstance(data, ImageSource) else {}


def records_of(data: TrainingData, split: str | None = None) -> list[Record]:
    """Return the images of a training's data, or of one of its splits; raises DataError if there are none."""
    if not isinstance(data, ImageSource):
        return read_records(data, split)
    return [record for record in data.records() if split in (None, record.split)]


def place_of(data: TrainingData, label: int | None) -> Path:
    """Return the folder where train images of a label belong, for messages."""
    if isinstance(data, ImageSource):
        return data.place_of(label)
    folder = Path(data)
    return folder / "train" / label_name(label) if _is_data_folder(folder) else folder


def training_data(
    data: Path | str, abnormal: Folders = (), unlabelled: Folders = (), all_normal: bool = False
) -> Path | PlainFolders:
    """Return what to train on: a data folder, a folder of normals, or that with folders of other images.

    ``all_normal``: the folder of normals holds folders, each of one patient.
    Raises DataError, with the command to type, if one is not the kind of folder that stands in its place, or if an
    image is in folders of two labels.
    """
    folders = PlainFolders(Path(data), _several(abnormal), _several(unlabelled), all_normal)
    normals, mixed = folders.normals, bool(folders.abnormal or folders.unlabelled)
    if not os.path.isdir(normals) or (_is_data_folder(normals) and not mixed and not all_normal):
        return normals  # its reader says what is wrong with it
    _refuse_data_folder(folders, mixed)
    for label in LABELS.values():
        for folder in folders.of(label):
            _check_plain(folders, folder, label)
    if not mixed and not all_normal:
        return normals
    _refuse_overlap(folders)
    return folders


def _several(given: Folders) -> tuple[Path, ...]:
    return tuple(map(Path, [given] if isinstance(given, str | os.PathLike) else given))


def _is_data_folder(folder: Path) -> bool:
    return os.path.exists(folder / MANIFEST) or any(os.path.isdir(folder / split) for split in SPLITS)


def _refuse_data_folder(folders: PlainFolders, mixed: bool) -> None:
    """Raise DataError if the normals are a data folder, lie in one, or are its classes without a split."""
    normals, learns = folders.normals, ("--classifier", "mixture") if mixed else ()
    if _is_data_folder(normals):
        found = f"has a manifest or the folders {', '.join(SPLITS)}, which say themselves what is abnormal"
        raise DataError(normals, found, f"name it alone: {_command(normals, *learns)}")
    if (around := data_folder_around(normals)) is not None:
        raise DataError(normals, "is a part of a data folder", f"name that: {_command(around, *learns)}")
    abnormal, unlabelled = (_there(normals / name) for name in ("abnormal", "unlabelled"))
    inside = PlainFolders(normals / "normal", abnormal, unlabelled)
    if os.path.isdir(inside.normals):
        raise DataError(normals, "holds a folder of each class, and no split", f"name them: {inside.command()}")


def _check_plain(folders: PlainFolders, folder: Path, label: int | None) -> None:
    """Raise DataError unless a folder holds images and nothing else, under a name that does not deny its label."""
    if not os.path.exists(folder):
        raise DataError(folder, "there is no such folder", check_path(folder))
    if not os.path.isdir(folder):
        raise DataError(folder, "is not a folder", f"name a folder of {label_name(label)} images")
    named = folder.resolve().name.lower()
    if named in LABELS and LABELS[named] != label:
        found = f"is named {named}, and stands where {label_name(label)} images should"
        raise DataError(folder, found, f"rename it, or type: {_unswapped(folders, folder, named).command()}")
    inner = [entry for entry in entries_of(folder) if os.path.isdir(entry)]
    if label == 0 and folders.all_normal:
        if other := next((entry.name for entry in inner if LABELS.get(entry.name.lower(), 0) != 0), None):
            found = f"holds a folder named {other}, and --all-normal says that everything in it is normal"
            raise DataError(folder, found, "name the folder of the normal images, and that of others by its option")
    elif inner:
        found = f"holds {count(len(inner), 'folder')} ({shown_few(inner, 'folder')}) where images of one label belong"
        remedy = f"name each by itself with --{label_name(label)}"
        if label == 0:
            patients = replace(folders, all_normal=True).command()
            example = _command(folder / "NORMALS", "--abnormal", folder / "OTHERS")
            remedy = f"if each is a patient and all are normal: {patients}; else name them, as in {example}"
        raise DataError(folder, found, f"{remedy}; {REMEDY_IDENTIFY}")
    if not images_in(folder):
        raise DataError(folder, "holds no images", f"name a folder of {label_name(label)} images")


def _unswapped(folders: PlainFolders, folder: Path, named: str) -> PlainFolders:
    """Return the folders with one that has the name of another label in its place."""
    beside = folder.parent / "normal"
    if LABELS[named] == 0:
        normals, others = folder, (folders.normals,)
    else:
        normals, others = beside if os.path.isdir(beside) else Path("NORMALS"), (folder,)
    return PlainFolders(normals, unlabelled=others) if named == "unlabelled" else PlainFolders(normals, others)


def _refuse_overlap(folders: PlainFolders) -> None:
    """Raise DataError if a folder stands in two places or lies in another, or if an image is in two labels' folders."""
    everywhere = [(label, folder) for label in LABELS.values() for folder in folders.of(label)]
    for (_, one), (_, other) in combinations(everywhere, 2):
        if one.resolve() == other.resolve():
            raise DataError(other, "is named twice", "name a folder once")
    records = folders.records()
    for label, second in combinations(LABELS.values(), 2):
        of_one, of_other = ([record for record in records if record.label == which] for which in (label, second))
        if both := copies(of_one, of_other):
            found = f"{count(len(both), f'{label_name(label)} image')} also in a folder of {label_name(second)} ones"
            raise DataError(folders.of(label)[0], f"{found}, byte for byte", "leave each where it belongs")


def _there(folder: Path) -> tuple[Path, ...]:
    return (folder,) if os.path.isdir(folder) else ()


def _command(*words: Path | str) -> str:
    """Return the command that trains on these."""
    return shlex.join(["aeflow", "train", *map(str, words), "--out", "RUN"])
