"""Records, one an image, from a data folder, a manifest or a list of paths.

::

    DATA/{train,val,test}/{normal,abnormal,unlabelled}/**   images, at any depth below the class folder
    DATA/{train,val,test}/mask/**                           masks of the abnormal images, found by the image's stem
    DATA/{train,val,test}/region/**                         masks of where disease can be, of images of any label
    DATA/{normal,abnormal,unlabelled,mask,region}/**        the same without a split, for `aeflow data split`
    DATA/*                                                  images alone: all are taken for normal ones to train on
    DATA/manifest.csv                                       path, split, label, patient, mask, region, kind; wins

The manifest is read as ``table`` says, and only ``path`` is required. A label is 0 or normal, 1 or abnormal, empty or
unlabelled; ``subtype`` may stand for ``kind``. Paths start at DATA; absolute ones must lie in it, and backslashes count
as slashes where no file has them in its name. The first of the columns ``position``, ``rel_pos``, ``slice`` that holds
nothing but numbers is the slice's position. Other columns are ignored. Without a column ``mask`` or ``region`` these
are looked for in ``{split}/mask/`` and ``{split}/region/``.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PureWindowsPath

from aeflow.data.folder_files import LABELS, MANIFEST, entries_of, images_in
from aeflow.data.masks import MASK, MASK_FOLDERS, REGION, MaskFolder, strays
from aeflow.data.table import Table, read_table
from aeflow.errors import DataError, check_path, count
from aeflow.imageio.content import FileState
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Header, Slice
from aeflow.privacy import REMEDY_IDENTIFY, shown
from aeflow.runtime.inputs import Inputs
from aeflow.runtime.terminal import print

SPLITS = ("train", "val", "test")
# What a manifest may write for a label, in small letters; 0.0 and 1.0 come from programs that know no empty integer.
WRITTEN_LABELS = {"": None, "0": 0, "0.0": 0, "1": 1, "1.0": 1, **LABELS}
POSITIONS = ("position", "rel_pos", "slice")  # columns that may hold a slice's position in its volume
KNOWN = ("path", "split", "label", "patient", "mask", "region", "kind", "subtype", *POSITIONS)
LAYOUT = f"put the images in {{train,val,test}}/{{normal,abnormal,unlabelled}}/ or list them in {MANIFEST}"

# File names of public sets that carry the patient: chest X-rays of Kermany et al., brain MRI of TCGA-LGG.
PATIENT = re.compile(r"person\d+|(?:NORMAL2-)?IM-\d+|TCGA_\w\w_\w{4}_\d{8}")


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set, and the facts known about it before it is opened."""

    path: Path  # to open
    name: str  # as the user gave it, or as found under the data folder
    split: str | None
    label: int | None  # 0 normal, 1 abnormal, None unknown
    patient: str  # raw key, never printed
    kind: str | None  # of abnormality
    mask: Path | None  # of the lesion
    region: Path | None = None  # mask of where disease can be, such as the lungs
    at: Slice | None = None  # the image's place in its file; None if the file holds one image
    study: str | None = None  # raw key of the study that a slice belongs to, never printed
    position: float | None = None  # of a slice in its volume, in any unit: smaller comes first
    header: Header | None = None  # of its file, once that was opened
    state: FileState | None = None  # likewise

    @property
    def files(self) -> tuple[Path | None, ...]:
        """All files that the record is read from."""
        return self.path, self.mask, self.region

    @property
    def slice_number(self) -> int | None:
        """Number of the slice from 1, as people count; None if the file holds one image."""
        return None if self.at is None else self.at.index + 1


def patient_of(name: str) -> str:
    """Return the patient that the file name of a public set carries (``PATIENT``), else the name as its own patient.

    >>> patient_of("test/abnormal/person101_bacteria_484.jpeg"), patient_of("scan.png")
    ('person101', 'scan.png')
    """
    found = PATIENT.match(Path(name).name)
    return found.group() if found else name


def read_records(data: Path | str, split: str | None = None, unsplit: bool = False) -> list[Record]:
    """Return the images of a data folder, or of one of its splits; raises DataError if the folder has none of these.

    Of a split every file that a manifest lists must be there: who names one is about to work for minutes. ``unsplit``:
    of a folder without any split all images are taken for those of the one named, with a note.
    """
    data = Path(data)
    if not os.path.exists(data):
        raise DataError(data, "there is no such folder", check_path(data))
    if not os.path.isdir(data):  # Path.is_dir raises for some paths
        raise DataError(data, "is not a folder", LAYOUT)
    records, lines = _of_manifest(data) if os.path.exists(data / MANIFEST) else (_of_folders(data), {})
    if not records:
        raise DataError(data, "holds no images", LAYOUT)
    there = [name for name in SPLITS if any(record.split == name for record in records)]
    if split is not None and unsplit and not there:
        _note_unsplit(str(data), split, len(records))
    elif split is not None:
        records = [record for record in records if record.split == split]
        if not records:
            found = f"no images in split '{split}'"
            folders = "normal" if split == "train" else "{normal,abnormal}"
            into = f"put images into {data / split / folders} (the splits are: {', '.join(there)})"
            named = into if there else "give the images one with aeflow data split"
            named = _above(data) or named
            raise DataError(data, found, named)
    if not any(os.path.exists(record.path) for record in records):
        found = f"of {count(len(records), 'listed file')} none exists"
        raise DataError(data, found, f"paths in {MANIFEST} start here")
    if split is not None and lines and (lacking := [r for r in records if not all(map(_is_there, r.files))]):
        what = "mask" if os.path.exists(lacking[0].path) else "image"
        more = f", as of {count(len(lacking) - 1, 'further row')}" if len(lacking) > 1 else ""
        where = f"{data / MANIFEST}, line {lines[lacking[0].path]}"
        raise DataError(where, f"its {what} is no file{more}", f"correct the path, which starts at {data}")
    return records


def _is_there(file: Path | None) -> bool:
    return file is None or os.path.exists(file)


@cache
def _note_unsplit(data: str, split: str, images: int) -> None:
    """Say once what the images of a folder without a split are taken for."""
    taken = f"its {count(images, 'image')} {'is' if images == 1 else 'are'} taken for {split} images"
    print(f"note: {data} has no split: {taken}, of which the model must not have learnt from any", file=sys.stderr)


def inputs_of(data: Path | str) -> Inputs:
    """Return all files that a data folder is read from."""
    inputs = Inputs([Path(data) / MANIFEST])
    inputs.add(file for record in read_records(data) for file in record.files)
    return inputs


def stray_masks(data: Path | str, records: Sequence[Record], kinds: Sequence[str] = MASK_FOLDERS) -> list[str]:
    """Return a sentence for each mask folder beside the records that holds masks which fit none of them."""
    notes = []
    for split in sorted({record.split or "" for record in records}):
        images = [record for record in records if (record.split or "") == split]
        for kind in kinds:
            folder = Path(data) / split / kind
            files = [file for file in images_in(folder) if not os.path.isdir(file)]
            used = {getattr(record, kind) for record in images} - {None}  # a manifest may name masks of any stem
            where = folder.relative_to(data).as_posix()
            notes.append(strays(where, kind, files, {record.path for record in images} | used))
    return [note for note in notes if note is not None]


def find_images(paths: Sequence[Path | str]) -> list[Record]:
    """Return the given files and all files in the given folders, unlabelled; what is no image is refused when read."""
    records = []
    for given in map(Path, paths):
        files = images_in(given) if os.path.isdir(given) else [given]
        if not files:
            raise DataError(given, "a folder without images", "name a folder that holds images")
        names = [file.as_posix() for file in files]
        records += [Record(Path(name), name, None, None, patient_of(name), None, None) for name in names]
    if not records:
        raise DataError("images", "no path was given", "name at least one image or folder")
    return records


def each_once(records: Sequence[Record]) -> list[Record]:
    """Return records without those of a file that was named before, in a folder too; a note tells of them."""
    known = {os.path.abspath(record.path): record for record in reversed(records)}
    once = [record for record in records if known[os.path.abspath(record.path)] is record]
    if len(once) < len(records):
        _note_repeated(records[0].path, len(records) - len(once))
    return once


@cache
def _note_repeated(first: Path, repeated: int) -> None:
    """Say once of a list of files how many of them are named again."""
    verb = "is" if repeated == 1 else "are"
    print(f"note: {count(repeated, 'file')} {verb} named more than once, and taken once", file=sys.stderr)


def of_label(
    records: Sequence[Record], label: int | None, *, at_least: int = 0, where: object = "data"
) -> list[Record]:
    """Return the records of one label; DataError, naming ``where``, if there are fewer than ``at_least``."""
    chosen = [record for record in records if record.label == label]
    if len(chosen) < at_least:
        name = label_name(label)
        number = "" if label is None else label
        found = f"{count(len(chosen), name + ' image')} where at least {at_least} are needed"
        raise DataError(where, found, f"add images to {name}/, or rows with label '{number}' to {MANIFEST}")
    return chosen


def label_name(label: int | None) -> str:
    """Return ``normal``, ``abnormal`` or ``unlabelled``."""
    return next(name for name, value in LABELS.items() if value == label)


def data_folder_around(folder: Path) -> Path | None:
    """Return the data folder of which a folder is a split, or lies in one; None if there is none."""
    real = folder.resolve()
    for above in (folder / "..", folder / "../..", folder / "../../.."):
        for split in SPLITS:
            if os.path.isdir(above / split) and real.is_relative_to((above / split).resolve()):
                return Path(os.path.normpath(above))
    return None


def _above(data: Path) -> str | None:
    """Return the advice to name the data folder that a folder of a split or class lies in; None if it lies in none."""
    around = data_folder_around(data)
    return None if around is None else f"name the data folder itself: {around}"


def _of_folders(data: Path) -> list[Record]:
    """Return the records of class folders; DataError for a folder of another name."""
    splits = [split for split in SPLITS if os.path.isdir(data / split)]
    if not splits and any(os.path.isdir(data / name) for name in LABELS):
        splits = [""]  # images without a split, in class folders directly
    if not splits and (plain := _plain(data)):
        return plain
    if not splits:
        found = f"has none of the folders {', '.join(SPLITS)} and no {MANIFEST}"
        raise DataError(data, found, _above(data) or LAYOUT)
    records = []
    for split in splits:
        try:
            folders = entries_of(data / split)
        except OSError:  # its reader says why
            records.append(Record(data / split, split, split or None, None, split, None, None))
            continue
        for folder in folders:
            if os.path.isdir(folder) and folder.name not in (*LABELS, *MASK_FOLDERS):
                # skipping a misspelt class would silently train or test on fewer images
                found = f"{shown(folder.name, 'folder')} is not one of {', '.join((*LABELS, *MASK_FOLDERS))}"
                raise DataError(data / split, found, f"rename or move it; {REMEDY_IDENTIFY}")
        masks, regions = _mask_folder(data, split, MASK), _mask_folder(data, split, REGION)
        for name, label in LABELS.items():
            folder = data / split / name
            for path in images_in(folder):
                relative = path.relative_to(data).as_posix()
                mask, region = masks.of(path) if label == 1 else None, regions.of(path)
                records.append(Record(path, relative, split or None, label, patient_of(relative), None, mask, region))
    return records


def _plain(data: Path) -> list[Record]:
    """Return the images of a folder that holds nothing but them as train normals, with a note; else none.

    Folders in it may be classes under names that nobody knows here, and would be taken for normal in silence.
    """
    entries = entries_of(data)
    images = [] if any(os.path.isdir(entry) for entry in entries) or _above(data) else images_in(data)
    if images:
        _note_plain(str(data), len(images))
    return [Record(path, path.name, "train", 0, patient_of(path.name), None, None) for path in images]


@cache
def _note_plain(data: str, images: int) -> None:
    """Say once what the images of a folder are taken for."""
    taken = "the file" if images == 1 else f"all {images:,} files"
    print(f"note: {taken} in {data} {'is' if images == 1 else 'are'} taken for normal to train on", file=sys.stderr)


def _of_manifest(data: Path) -> tuple[list[Record], dict[Path, int]]:
    """Return the records of a manifest, and the line of each; DataError, naming it, for a row that is wrong."""
    manifest = data / MANIFEST
    table = read_table(manifest, ("path",), KNOWN)
    place = _place(table)
    lines: dict[Path, int] = {}
    folders: dict[tuple[str, str], MaskFolder] = {}
    records = []
    for line in table.rows:
        row, where = line.values, f"{manifest}, line {line.line}"
        path = _inside(data, row["path"], where)
        if path in lines:
            raise DataError(where, f"its image is listed before, in line {lines[path]}", "list each image once")
        lines[path] = line.line
        written, split = row.get("label", "").lower(), row.get("split", "").lower()
        if written not in WRITTEN_LABELS:
            remedy = "write 0 or normal, 1 or abnormal, nothing for unlabelled"
            raise DataError(where, "a label of another kind", remedy)
        if split not in ("", *SPLITS):
            raise DataError(where, "a split of another name", f"write {', '.join(SPLITS)} or nothing")
        label = WRITTEN_LABELS[written]
        masks: dict[str, Path | None] = {}
        for what in MASK_FOLDERS:
            masks[what] = _inside(data, row[what], where) if row.get(what) else None
            if what not in row and split and (what == REGION or label == 1):
                if (split, what) not in folders:
                    folders[split, what] = _mask_folder(data, split, what)
                masks[what] = folders[split, what].of(path)
        name = path.relative_to(data).as_posix()
        records.append(
            Record(
                path=path,
                name=name,
                split=split or None,
                label=label,
                patient=row.get("patient") or patient_of(name),
                kind=row.get("kind") or row.get("subtype") or None,
                mask=masks[MASK],
                region=masks[REGION],
                position=_number(row[place]) if place and row[place] else None,
            )
        )
    return records, lines


def _place(table: Table) -> str | None:
    """Return the column of slice positions; one that holds anything but numbers means something else and is skipped."""

    def numbers(name: str) -> bool:
        try:
            return all(math.isfinite(_number(row.values[name])) for row in table.rows if row.values[name])
        except ValueError:
            return False

    return next((name for name in POSITIONS if name in table.columns and numbers(name)), None)


def _number(text: str) -> float:
    """Return a number, with a decimal point or comma; ValueError if it is none."""
    return float(text.replace(",", "."))


def _inside(data: Path, text: str, where: str) -> Path:
    """Return the path that a manifest names; DataError if it leads out of the data folder."""
    if not text or "\0" in text:
        raise DataError(where, "names no file", "give every row a path")
    if "\\" in text and not os.path.exists(data / text):
        text = PureWindowsPath(text).as_posix()
    relative = Path(text)
    if relative.is_absolute():
        above = next((top for top in (data.absolute(), data.resolve()) if relative.is_relative_to(top)), None)
        relative = relative if above is None else relative.relative_to(above)
    if relative.is_absolute() or PureWindowsPath(text).is_absolute() or ".." in relative.parts:
        raise DataError(where, "its path leads out of the data folder", f"give a path that starts at {data}")
    return data / relative


def _mask_folder(data: Path, split: str, kind: str) -> MaskFolder:
    """Return the masks of a kind in one split, but for those in folders that cannot be listed, which are said."""
    folder = data / split / kind
    files = images_in(folder)
    for unlisted in filter(os.path.isdir, files):
        found = f"cannot be listed: its {kind}s are passed over; make it readable, {REMEDY_IDENTIFY}"
        print(f"note: {shown(unlisted, 'folder')}: {found}", file=sys.stderr)
    return MaskFolder(folder, (file for file in files if not os.path.isdir(file)))


Refusals = list[tuple[Record, ImageError]]
