"""Files of a folder that may be images: without hidden files, manifests, masks, and what is plainly something else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from aeflow.data.masks import MASK_FOLDERS
from aeflow.errors import count
from aeflow.imageio.formats import is_no_image
from aeflow.privacy import MOST_NAMED, shown_few, unless_shown
from aeflow.runtime.files import PART
from aeflow.runtime.terminal import print

LABELS = {"normal": 0, "abnormal": 1, "unlabelled": None}  # class folder -> label
MANIFEST = "manifest.csv"


def images_in(folder: Path) -> list[Path]:
    """Return what may be an image below a folder, sorted; none if there is no such folder. A note tells of the rest."""
    return list(walk_images(folder))


def walk_images(folder: Path) -> Iterator[Path]:
    """Yield what ``images_in`` returns, while memory grows with the largest folder alone."""
    others: list[Path] = []
    number = 0
    for path in _files(folder) if os.path.isdir(folder) else ():
        if not is_no_image(path):
            yield path
            continue
        number += 1
        if number <= MOST_NAMED:
            others.append(path)
    if others:
        _note_others(tuple(others), number)


@cache
def _note_others(first: tuple[Path, ...], number: int) -> None:
    """Say once that files are passed over; some of them are named."""
    verb = "is no image and is" if number == 1 else "are no images and are"
    print(
        f"note: {count(number, 'file')} {verb} passed over: {shown_few(first, more=number)}{unless_shown()}",
        file=sys.stderr,
    )


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield all files below a folder in sorted order; a folder that cannot be listed stands for its files.

    Its reader then refuses it, as it refuses a file that cannot be opened. Hidden ones, manifests, incomplete results,
    and masks of either kind beside their class folders are left out.
    """
    real = folder.resolve()
    if real in above:  # a link that leads back to where it came from
        return
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))  # paths take ten times as much
    except OSError:
        yield folder
        return
    classes = any(name in LABELS for name in names)
    for name in names:
        entry = folder / name
        if os.path.isdir(entry):
            if not (classes and name in MASK_FOLDERS):
                yield from _files(entry, (*above, real))
        elif name != MANIFEST and entry.suffix != PART:
            yield entry


def entries_of(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted, without hidden entries; OSError if it cannot be listed."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
