"""Folders of files numbered as the rows of a table, which replace those of an earlier table and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aeflow.errors import OutputError
from aeflow.runtime.files import beginning, refuse_former
from aeflow.runtime.folders import alone, together
from aeflow.runtime.inputs import Inputs

MARK = b"aeflow"  # in the header of each such file


def file_name(number: int, ending: str) -> str:
    """Return the name of a file of row ``number``, from 1."""
    return f"{number:05d}{ending}"


def former(folder: Path, ending: str, inputs: Inputs, overwrite: bool) -> dict[str, None]:
    """Return the names of the files of an earlier table in a folder, in order; ``ending`` is a regular expression.

    Raises OutputError if one is an input or was not written by aeflow, or if they are not to be overwritten; if the
    folder is a file, or holds inputs itself.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(folder, "is a file", "name a folder")
    inputs.keep_apart(folder)
    name = re.compile(rf"\d{{5,}}{ending}")
    found = sorted(path for path in folder.iterdir() if name.fullmatch(path.name)) if folder.is_dir() else []
    for path in found:
        inputs.spare(path)
        if MARK not in beginning(path):
            raise OutputError(path, "is there already, and not by aeflow", "name another folder")
        refuse_former(path, overwrite)
    return dict.fromkeys(path.name for path in found)


@contextmanager
def numbered(folder: Path, ending: str, inputs: Inputs, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder for such files; at the end they are in ``folder``, and those of an earlier table are gone.

    They come together, so that a folder never holds pictures of two tables. Raises as ``former`` does.
    """
    kind = f".{ending.rsplit('.', 1)[1]}"
    with alone(folder, kind):
        own = former(folder, ending, inputs, overwrite)
        with together(folder, own, inputs, kind=kind) as staged:
            yield staged
