"""Memory of what files have cost and why they were refused, so that a file that broke a limit is refused once.

The time limit is for one image. All images of a file together get that time once, and a twentieth of it for each:
enough for any that were made to be looked at, and not hours for a small file that unfolds to thousands of slow slices.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from aeflow.imageio.content import signature
from aeflow.imageio.errors import FileError, ImageLimitError
from aeflow.imageio.limits import Limits

REMEMBERED = 1024  # files; all images of one are read in a row
SHARE_OF_AN_IMAGE = 1 / 20  # of the time limit, that each image adds to its file's


@dataclass(slots=True)
class _Cost:
    """Time that a file took, for which calls, and the refusal of the whole file if there was one."""

    seconds: float = 0.0
    calls: set[int] = field(default_factory=set)  # one for each image, so that reading it again costs nothing
    refusal: FileError | None = None


class FileCosts:
    """Costs of the last files, for all workers of a pool."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._costs: OrderedDict[tuple[object, ...], _Cost] = OrderedDict()
        self._lock = threading.Lock()

    def refusal(self, path: Path) -> FileError | None:
        """Return why nothing of a file is to be read any more; None if it may be."""
        key = signature(path)
        with self._lock:
            cost = self._costs.get(key)
            return None if cost is None else cost.refusal

    def add(self, path: Path, call: int, seconds: float, error: Exception | None) -> None:
        """Count the time of a call that read a file, and remember its end if it refused the file."""
        key = signature(path)
        with self._lock:
            cost = self._costs.setdefault(key, _Cost())
            self._costs.move_to_end(key)
            if len(self._costs) > REMEMBERED:
                self._costs.popitem(last=False)
            if call not in cost.calls:
                cost.calls.add(call)
                cost.seconds += seconds
            if isinstance(error, FileError):
                cost.refusal = error
            elif cost.seconds > self._limits.max_seconds * (1 + SHARE_OF_AN_IMAGE * len(cost.calls)):
                found = f"its first {len(cost.calls)} images took {cost.seconds:.0f} s"
                cost.refusal = ImageLimitError(path, found, "split it, or raise max_seconds")
