"""Folder of an archive: parts of its table, its plans, and what they were made with.

::

    DIR/part-0001-000000.parquet   a part of revision 1: rows of files that stand beside one another in its plan
    DIR/_archive.json              the model, the sources, and if all parts are there (``complete``)
    DIR/_plan-0001.arrow           the files of revision 1; _plan-0000.arrow is being made, or was when it was killed
    DIR/_studies.csv               one line a study of several images, once complete
    DIR/.studies-*/                what these are computed in, or were when the process was killed

Programs that read a folder of Parquet pass over names that begin with ``_`` or ``.``. A part gets its name by a rename
once the disk holds it, so nobody sees half of one. Revision 1 is what was scored first; each ``--since`` adds one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aeflow._version import __version__
from aeflow.errors import ArtifactError, OutputError
from aeflow.runtime.files import PART, digest, replacing, sync_folder, write_text
from aeflow.runtime.folders import LOCK

if TYPE_CHECKING:
    import pyarrow as pa

STATE, STUDIES, WRITTEN, WORK = "_archive.json", "_studies.csv", "_part", ".studies-"
PLAN_NAME, PART_NAME = "_plan-{:04}.arrow", "part-{:04}-{:06}.parquet"
OWN = re.compile(r"_archive\.json|_studies\.csv|_part|\.studies-.+|_plan-\d{4,}\.arrow|part-\d{4,}-\d{6,}\.parquet")
PART_FILE = re.compile(r"part-(\d{4,})-(\d{6,})\.parquet")
COMING = 0  # number of the plan that is being made
FORMAT = 1
SEAL = "sha256"  # of the state, in itself
REMEDY = "score all again with --overwrite"


class Revision(BaseModel):
    """What was scored together: at first, or by one --since."""

    model_config = ConfigDict(extra="forbid")

    sources: list[str]  # as the user named them, folders and files by their absolute paths
    folders: list[str]  # those of the sources that are folders
    files: int
    parts: int
    plan: str  # SHA-256 of its plan
    complete: bool = False


class State(BaseModel):
    """What an archive was made with, and how far it is."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    aeflow: str = __version__
    replaced: bool = False  # its parts are being deleted, to make place for others
    task: dict[str, str | float | bool]  # what may not change from one command to the next
    backend_version: str = ""
    rule: str = ""  # of the threshold, in words
    false_positive_rate: float = 0.05
    revisions: list[Revision] = Field(default_factory=list)

    @property
    def complete(self) -> bool:
        """If every part is there."""
        return not self.replaced and bool(self.revisions) and all(one.complete for one in self.revisions)


class ArchiveFolder:
    """A folder that is an archive, or becomes one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: State | None = None

    @classmethod
    def opened(cls, path: Path) -> Self:
        """Return a folder with its state, None if it has none.

        Raises ArtifactError if the state is damaged, OutputError if something else is in the place.
        """
        found = cls(path)
        if path.exists() and not path.is_dir():
            remedy = "name a folder for an archive, or a table that ends in .csv or .parquet"
            raise OutputError(path, "is there already, and is no folder", remedy)
        if is_archive(path):
            found.state = read_state(path)
        elif foreign := found._foreign():
            raise OutputError(path, f"holds something else ({len(foreign)} entries)", "name another folder")
        return found

    def _foreign(self) -> list[str]:
        """Return the names of entries that no archive has."""
        if not self.path.is_dir():
            return []
        return [name for name in os.listdir(self.path) if not OWN.fullmatch(name.removesuffix(PART)) and name != LOCK]

    def plan(self, revision: int) -> Path:
        """Return the path of the plan of a revision."""
        return self.path / PLAN_NAME.format(revision)

    def part(self, revision: int, number: int) -> Path:
        """Return the path of a part."""
        return self.path / PART_NAME.format(revision, number)

    def parts(self) -> list[Path]:
        """Return all parts that are there, in order."""
        return sorted(path for path in self.path.iterdir() if PART_FILE.fullmatch(path.name))

    def there(self, revision: int) -> set[int]:
        """Return the numbers of the parts of a revision that are there."""
        found = (PART_FILE.fullmatch(name) for name in os.listdir(self.path))
        return {int(match[2]) for match in found if match and int(match[1]) == revision}

    def write_part(self, revision: int, number: int, table: pa.Table) -> None:
        """Write a part; it gets its name once the disk holds it."""
        import pyarrow.parquet as pq

        with replacing(self.path / WRITTEN, sync_name=False) as file:
            pq.write_table(table, file, write_page_checksum=True)
        (self.path / WRITTEN).rename(self.part(revision, number))
        sync_folder(self.path)

    def write_state(self) -> None:
        """Write the state, with a line for people and programs if it is complete."""
        assert self.state is not None, "there is a state to write"
        content = {"complete": self.state.complete, **self.state.model_dump()}
        sealed = {**content, SEAL: digest(content)}
        write_text(self.path / STATE, json.dumps(sealed, indent=1, allow_nan=False) + "\n")

    def clear(self, spare: Path | None = None) -> None:
        """Delete what an archive has here but one file; if that is cut short, the state says so."""
        if self.state is not None:
            self.state.replaced = True
            self.write_state()
        for name in sorted(os.listdir(self.path)):
            if name.startswith(WORK):
                shutil.rmtree(self.path / name)
            elif OWN.fullmatch(name) and name != STATE and self.path / name != spare:
                (self.path / name).unlink()
        (self.path / STATE).unlink(missing_ok=True)
        sync_folder(self.path)
        self.state = None


def is_archive(path: Path) -> bool:
    """Return if a folder is an archive, complete or not."""
    return (path / STATE).is_file()


def read_state(path: Path) -> State:
    """Return what an archive was made with; ArtifactError if that is damaged, or of a version to come."""
    try:
        content = json.loads((path / STATE).read_bytes())
        if content.get("format") != FORMAT:
            raise ArtifactError(path / STATE, "of another version of aeflow", f"use that version, or {REMEDY}")
        if content.pop(SEAL, None) != digest(content):
            raise ValueError("checksum differs")
        content.pop("complete", None)
        return State.model_validate(content)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise ArtifactError(path / STATE, f"damaged ({type(error).__name__})", REMEDY) from error
