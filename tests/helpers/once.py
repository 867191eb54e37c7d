"""Things that are costly to make: made by one of a session's processes, used by all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def once(place: Path, make: Callable[[Path], object]) -> Path:
    """Return a file or folder that ``make`` has written to ``place``, by whichever process came first."""
    place.parent.mkdir(parents=True, exist_ok=True)
    made = place.with_name(f"{place.name}.made")
    with FileLock(f"{place}.lock"):
        if not made.exists():
            make(place)
            made.touch()
    return place


def of_session(temporary: Path) -> Path:
    """Return the folder that all processes of a session share, from the one where pytest lets this process write."""
    return (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / "shared"
