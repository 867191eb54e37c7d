"""Data folders from downloads: each a manifest, a link to the images at their place, and their terms."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from aeflow.data.folder_files import MANIFEST
from aeflow.data.manifest import write_manifest
from aeflow.data.records import SPLITS, Record, label_name
from aeflow.data.splits import split_by_patient
from aeflow.datasets.recipe import Key, Recipe, Release, Splits
from aeflow.errors import DataError, count
from aeflow.privacy import shown, unless_shown
from aeflow.runtime.files import write_text
from aeflow.runtime.folders import alone, together
from aeflow.runtime.inputs import Inputs

LINK = "images"  # name of the link in the data folder to the download
TERMS = "SOURCE.md"
MAX_DEPTH = 2  # folders that an archive may wrap around its content
DRAWN_FRACTIONS = {"train": 0.8, "test": 0.2}
REMEDY_DOWNLOAD = "download and unpack it again"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data folder as prepared, with the facts to report about it."""

    splits: Splits
    release: Release | None  # whose counts it has; None if they were not checked, or were allowed to differ
    left_out: int  # images of patients who are in a later split, too
    patients_left_out: int
    notes: list[str]


def prepare(recipe: Recipe, folder: Path | str, out: Path | str, allow_counts: bool = False) -> Prepared:
    """Turn the download in ``folder`` into the data folder ``out``; nothing is copied, volumes are cut into PNGs.

    A patient who is in several splits stays in the last of train, val, test. Raises DataError if the folder holds
    something else or only a part, if counts are not as published, or if ``out`` is in use.
    """
    folder, out = Path(folder), Path(out)
    root = locate(recipe, folder)
    _check_out(out, root)
    records = recipe.records(root)
    _check_files(records, folder)
    release, notes = _check_counts(recipe, records, folder, allow_counts)
    if any(record.split for record in records):
        kept = one_side(records)
        splits = {name: [record for record in kept if record.split == name] for name in SPLITS}
        splits = {name: members for name, members in splits.items() if members}
    else:
        kept, splits = records, split_by_patient(records, DRAWN_FRACTIONS, seed=0)
    names = {record.name for record in kept}
    left_out = [record for record in records if record.name not in names]
    prepared = Prepared(splits, release, len(left_out), len({record.patient for record in left_out}), notes)
    try:
        return _written(prepared, recipe, root, out)
    except OSError as error:
        raise DataError(out, f"cannot be written ({error.strerror})", "name another folder with --out") from error


def _written(prepared: Prepared, recipe: Recipe, root: Path, out: Path) -> Prepared:
    """Write the data folder, as a whole or not at all."""
    with ExitStack() as stack:
        stack.enter_context(alone(out))
        _check_free(out)
        staged = stack.enter_context(together(out, (), Inputs()))
        if recipe.write is not None:
            splits = recipe.write(prepared.splits, staged)
        else:
            (staged / LINK).symlink_to(root.resolve(), target_is_directory=True)
            splits = {name: [_linked(record, root, staged) for record in of] for name, of in prepared.splits.items()}
        write_text(staged / TERMS, terms(recipe, prepared))
        write_manifest(staged / MANIFEST, staged, splits)
    return replace(
        prepared, splits={name: [_moved(record, staged, out) for record in of] for name, of in splits.items()}
    )


def locate(recipe: Recipe, folder: Path) -> Path:
    """Return the folder, or one inside it, that holds all that the recipe needs; DataError if there is none."""
    if not os.path.isdir(folder):
        found = "is a file" if os.path.exists(folder) else "there is no such folder"
        raise DataError(folder, found, "unpack the archive, and name the folder it gives")
    best: tuple[int, Path, list[str]] = (-1, folder, [])
    for place in _outside_in(folder):
        missing = [need for need in recipe.needs if next(place.glob(need), None) is None]
        if not missing:
            return place
        if len(recipe.needs) - len(missing) > best[0]:
            best = len(recipe.needs) - len(missing), place, missing
    there = [need for need in recipe.needs if need not in best[2]]
    number = len(_entries(folder))
    found = f"of {recipe.title} it holds {', '.join(there) or 'nothing'} and lacks {', '.join(best[2])}"
    raise DataError(folder, f"{found} ({number} entries in it)", f"name the unpacked download of {recipe.url}")


def _outside_in(folder: Path) -> Iterator[Path]:
    """Yield the folder and the folders in it, level by level, down to MAX_DEPTH."""
    level = [folder]
    yield folder
    for _ in range(MAX_DEPTH):
        level = [
            entry
            for place in level
            for entry in _entries(place)
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        ]
        yield from level


def _entries(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted; DataError if it cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            shown(folder, "folder"), f"cannot be listed ({error.strerror})", f"make it readable{unless_shown()}"
        ) from error


def one_side(records: Sequence[Record]) -> list[Record]:
    """Return the records without patients' images that have others in a later split.

    Train gives way to val, and both to test.
    """
    last: dict[str, int] = {}
    for record in records:
        last[record.patient] = max(_rank(record), last.get(record.patient, 0))
    return [record for record in records if _rank(record) == last[record.patient]]


def _rank(record: Record) -> int:
    """Return the place of a record's split in train, val, test."""
    return SPLITS.index(record.split or "train")


def _check_files(records: Sequence[Record], folder: Path) -> None:
    """Raise DataError if a file is missing or empty."""
    files = [path for record in records for path in (record.path, record.mask) if path is not None]
    missing = sum(not os.path.isfile(path) for path in files)
    empty = sum(os.path.isfile(path) and os.path.getsize(path) == 0 for path in files)
    if not files:
        raise DataError(folder, "the folders are there, but no images in them", REMEDY_DOWNLOAD)
    if missing or empty:
        raise DataError(folder, f"{missing:,} of {count(len(files), 'file')} missing, {empty:,} empty", REMEDY_DOWNLOAD)


def _check_counts(
    recipe: Recipe, records: Sequence[Record], folder: Path, allow: bool
) -> tuple[Release | None, list[str]]:
    """Return the release whose counts the records have, and notes; DataError if they differ and may not."""
    if not recipe.releases:
        return None, ["its counts were not checked: no source confirms them"]
    found = tally(records)
    release = nearest(found, recipe.releases)
    wrong = differences(found, release)
    if not wrong:
        return release, []
    text = f"{'; '.join(wrong)} ({release.name})".replace("; ", ", ")
    if allow:
        return None, [text]
    raise DataError(folder, text, f"{REMEDY_DOWNLOAD}, or go on as it is with --allow-counts")


def _check_out(out: Path, root: Path) -> None:
    """Raise DataError if ``out`` is inside the download."""
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(out, "lies in the download", "name a folder outside of it with --out")


def _check_free(out: Path) -> None:
    """Raise DataError if ``out`` holds what is to be written."""
    if os.path.lexists(out / MANIFEST):
        raise DataError(out / MANIFEST, "is there already", "move it away, or name another folder with --out")
    for name in (TERMS, LINK, *SPLITS):
        if os.path.lexists(out / name):
            raise DataError(out, "cannot be written (File exists)", "name another folder with --out")


def _moved(record: Record, before: Path, now: Path) -> Record:
    """Return a record with its paths in another folder than before."""
    mask = None if record.mask is None else now / record.mask.relative_to(before)
    return replace(record, path=now / record.path.relative_to(before), mask=mask)


def _linked(record: Record, root: Path, out: Path) -> Record:
    """Return a record with its paths through the link."""
    mask = None if record.mask is None else out / LINK / record.mask.relative_to(root)
    own = record.patient == record.name
    name = f"{LINK}/{record.name}"
    return replace(record, path=out / name, name=name, patient=name if own else record.patient, mask=mask)


def terms(recipe: Recipe, prepared: Prepared) -> str:
    """Return the page that travels with the data: title, source, licence, citation, split and notes."""
    lines = [f"# {recipe.title}", "", f"- Page: {recipe.url}", f"- Licence: {recipe.licence}"]
    lines += [f"- Cite: {recipe.citation}", f"- Split: {recipe.split}"]
    if prepared.release is not None:
        lines.append(f"- Counts: as published ({prepared.release.name})")
    if prepared.left_out:
        patients = count(prepared.patients_left_out, "patient")
        lines.append(f"- Left out: {count(prepared.left_out, 'image')} of {patients} with others in a later split")
    lines += [f"- Note: {note}" for note in (*prepared.notes, recipe.note) if note]
    return "\n".join(lines) + "\n"


def tally(records: Sequence[Record]) -> Counter[Key]:
    """Return the number of records of each label and of each kind in each split."""
    found: Counter[Key] = Counter()
    for record in records:
        names = {label_name(record.label), record.kind} - {None}
        found.update((record.split or "", name) for name in names if name is not None)
    return found


def differences(found: Counter[Key], release: Release) -> list[str]:
    """Return each count that is not as published: ``train normal 1340 where 1341 were published``."""
    return [
        f"{' '.join(filter(None, key))} {found[key]} where {n} were published"
        for key, n in release.counts.items()
        if found[key] != n
    ]


def nearest(found: Counter[Key], releases: Sequence[Release]) -> Release:
    """Return the release whose counts differ least in sum."""
    return min(releases, key=lambda release: sum(abs(found[key] - n) for key, n in release.counts.items()))
