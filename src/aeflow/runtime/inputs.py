"""Files that a command reads, so that nothing it writes replaces them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from aeflow.errors import OutputError


class Inputs:
    """Files that a command reads; a file is known by what it is, through links and in any spelling of its path."""

    def __init__(self, files: Iterable[Path | None] = ()) -> None:
        self._new: list[Path] = []
        self._known: set[tuple[int, int]] = set()
        self._folders: set[Path] = set()
        self.add(files)

    def add(self, files: Iterable[Path | None]) -> None:
        """Add files that turned out to be read, too."""
        new = [file for file in files if file is not None]
        self._new += new
        self._folders.update(file.parent for file in new)

    def spare(self, place: Path) -> None:
        """Raise OutputError if one of the files is where something is to be written."""
        found = _identity(place)
        if found is None:
            return
        self._known.update(known for file in self._new if (known := _identity(file)) is not None)
        self._new.clear()
        if found in self._known:
            raise OutputError(place, "is one of the inputs", "name another place")

    def keep_apart(self, folder: Path) -> None:
        """Raise OutputError if files lie in a folder for results, which would be taken for more of them next time."""
        found = _identity(folder)
        if found is not None and any(_identity(one) == found for one in self._folders):
            raise OutputError(folder, "holds images that are read here", "name a folder of its own for the results")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and number of a file, the same by whatever name; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # it cannot be read either, and its reader says so
        return None
    return found.st_dev, found.st_ino
