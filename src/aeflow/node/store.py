"""Files of a node: received objects by their content, and results until they are sent.

::

    STORE/queue.db              the queue
    STORE/objects/ab/ab12….dcm  received objects, named by their content: no name comes from a peer
    STORE/results/….dcm         results until they are sent, named at random
    STORE/scratch/              what is being written; a start deletes what a killed process left there
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Collection
from pathlib import Path

from aeflow.runtime.files import sync_folder

OBJECTS, RESULTS, SCRATCH = "objects", "results", "scratch"
ENDING = ".dcm"


def digest_of(data: bytes, syntax: str) -> str:
    """Return the SHA-256 of an object's transfer syntax and data set, with which the name of its file begins."""
    return hashlib.sha256(syntax.encode() + b"\0" + data).hexdigest()


class Store:
    """Folder of a node, which its owner alone may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("", OBJECTS, RESULTS, SCRATCH):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(256):  # now, and not while senders wait
            (folder / OBJECTS / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder / OBJECTS)

    @property
    def free(self) -> int:
        """Bytes of the disk that are free for this user."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def path_of(self, name: str) -> Path:
        """Return where an object lies."""
        return self.folder / OBJECTS / name[:2] / f"{name}{ENDING}"

    def result(self, name: str) -> Path:
        """Return where a result lies."""
        return self.folder / RESULTS / f"{name}{ENDING}"

    def keep(self, content: bytes, digest: str) -> str:
        """Write an object; return the name of its file once the disk holds both, OSError if it does not.

        The name is a new one each time: whoever deletes a file deletes none that came again meanwhile.
        """
        name = f"{digest}-{uuid.uuid4().hex[:8]}"
        place = self.path_of(name)
        descriptor, part = tempfile.mkstemp(dir=self.folder / SCRATCH)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, place)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        sync_folder(place.parent)
        return name

    def scratch(self) -> Path:
        """Return a new folder for what is being made."""
        return Path(tempfile.mkdtemp(dir=self.folder / SCRATCH))

    def sweep(self, objects: Collection[str], results: Collection[str]) -> int:
        """Delete all files but the named ones, which no peer was told of; return how many there were."""
        kept = {self.path_of(name) for name in objects} | {self.result(name) for name in results}
        left = [*(self.folder / OBJECTS).glob("*/*"), *(self.folder / RESULTS).iterdir()]
        gone = [path for path in left if path not in kept]
        for path in gone:
            path.unlink()
        shutil.rmtree(self.folder / SCRATCH)
        (self.folder / SCRATCH).mkdir(mode=0o700)
        return len(gone)

    def forget(self, objects: Collection[str], results: Collection[str]) -> None:
        """Delete objects and results."""
        for path in [*map(self.path_of, objects), *map(self.result, results)]:
            path.unlink(missing_ok=True)
