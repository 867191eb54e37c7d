"""Folders of files numbered as the rows of a table, which replace those of an earlier table and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aeflow.errors import OutputError
from aeflow.runtime.files import PART, beginning, sync_folder
from aeflow.runtime.folders import alone
from aeflow.runtime.inputs import Inputs

MARK = b"aeflow"  # in the header of each such file


@contextmanager
def numbered(folder: Path, ending: str, inputs: Inputs) -> Iterator[None]:
    """Hold a folder for files ``00001`` and so on with an ending, a regular expression, while they are written.

    Raises OutputError if a file of such a name is an input or was not written by aeflow.
    """
    name = re.compile(rf"\d{{5,}}{ending}({re.escape(PART)})?")
    with alone(folder, lock=f".{ending.rsplit('.', 1)[1]}-lock"):
        for path in folder.iterdir():
            found = name.fullmatch(path.name)
            if found is None:
                continue
            if found[found.re.groups] is not None:  # of a process that was killed
                path.unlink()
                continue
            inputs.spare(path)
            if MARK not in beginning(path):
                raise OutputError(path, "is there already, and not by aeflow", "name another folder")
        try:
            yield
        finally:
            sync_folder(folder)  # once: for each file it would take as long as the file's own bytes
