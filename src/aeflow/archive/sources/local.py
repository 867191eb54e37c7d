"""Files of this machine, or of one that all machines see: a folder, a table with a column ``path``, or one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from aeflow.archive.item import Item
from aeflow.archive.sources.fetched import Fetched
from aeflow.archive.sources.tables import is_table, listed
from aeflow.data.folder_files import walk_images


def items(source: str) -> Iterator[Item]:
    """Yield the files of a folder as ``find_images`` sorts them, the files that a table lists, or the one file."""
    path = Path(source)
    if os.path.isdir(path):
        for file in walk_images(path):
            yield item_of(file.as_posix(), str(file))
    elif is_table(source):
        folder = os.path.abspath(path.parent)
        yield from listed(path, lambda text: item_of(text, os.path.join(folder, text)))
    else:
        yield item_of(path.as_posix(), source)


def item_of(name: str, path: str) -> Item:
    """Return a file with its size and time of change; without them if it is not there, which its reader reports."""
    absolute = os.path.abspath(path)
    try:
        status = os.stat(absolute)
    except (OSError, ValueError):
        return Item(name, absolute)
    return Item(name, absolute, bytes=status.st_size, version=str(status.st_mtime_ns))


def fetch(item: Item) -> Fetched:
    """Return the file itself."""
    return Fetched(Path(item.path))


def folder(source: str) -> str | None:
    """Return the absolute path of a folder, None for anything else."""
    return os.path.abspath(source) if os.path.isdir(source) else None
