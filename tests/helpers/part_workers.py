"""What workers of an engine open in tests: no model, but ends of all kinds; in a module, as workers import it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from aeflow.archive.item import Item
from aeflow.errors import ArtifactError
from aeflow.imageio.errors import ImageError

COLUMNS = pa.schema([("name", pa.string()), ("error", pa.string())])


@dataclass(frozen=True)
class Toy:
    """Opens what gives each file a row of its name, and notes its process in ``folder``."""

    folder: str
    deadly: tuple[str, ...] = ()  # names of files that kill the process
    seconds: float = 0.0  # that a file takes
    at_start: str = ""  # what ends the process before it is ready

    def open(self) -> ToyScores:
        if self.at_start == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.at_start == "refuse":
            raise ArtifactError("model", "damaged", "train it again")
        Path(self.folder, f"{os.getpid()}.started").touch()
        return ToyScores(self)


class ToyScores:
    def __init__(self, toy: Toy) -> None:
        self.facts, self._toy = "facts of a toy", toy

    def __call__(self, items: Sequence[Item]) -> pa.Table:
        for item in items:
            time.sleep(self._toy.seconds)
            if item.name in self._toy.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
        return pa.Table.from_pylist([{"name": item.name} for item in items], COLUMNS)

    def refused(self, item: Item, error: ImageError) -> pa.Table:
        return pa.Table.from_pylist([{"name": item.name, "error": error.found}], COLUMNS)


def workers_of(driver: int) -> list[int]:
    """The worker processes of a process, as Linux lists them."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == driver and b"aeflow.archive.engines.worker" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:  # it has ended
            continue
    return sorted(found)
