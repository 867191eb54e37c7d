"""File that was fetched to be read: a user's own, or a copy without a name, which goes with the process."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aeflow.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Fetched:
    """File to read; ``close`` when nothing of it is needed any more."""

    path: Path
    copy: IO[bytes] | None = None

    def close(self) -> None:
        """Let a copy go; a user's own file stays."""
        if self.copy is not None:
            self.copy.close()


def nameless() -> tuple[Fetched, IO[bytes]]:
    """Return a new file in the temporary folder that has no name there, and the file to write its content to.

    Other processes of the same user read it by the number that it has in this one, so no patient's image is left where
    this one is killed. SettingsError where the system has no such thing.
    """
    if not sys.platform.startswith("linux"):
        raise SettingsError(
            "sources", "a URL can be read on Linux alone", "copy the objects to a folder, and name that"
        )
    file = tempfile.TemporaryFile()  # noqa: SIM115  # ``close`` closes it
    return Fetched(Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"), file), file
