"""Arrays that stay on disk: mapped into memory, where the system reads what is asked for."""

from __future__ import annotations

import math
import mmap
import resource
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeflow.errors import ArtifactError

# Files that a process may hold open, if the system lets it: two a shard of 256 images. Linux maps no more than so many.
MOST_FILES = 65_000


def mapped(path: Path) -> tuple[NDArray[Any], mmap.mmap]:
    """Return the array in a .npy file of version 1, not to be written to, and the file in memory that holds it.

    It stays readable if the file is deleted. Raises ValueError or OSError if the file is none.
    """
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{path.name}: another version of the format")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if by_columns or len(held) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{path.name}: its size is not what it says")
    return np.frombuffer(held, dtype, offset=start).reshape(shape), held


def allow_many_files() -> None:
    """Let this process hold as many files open as the system lets it, at most MOST_FILES."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def too_many_files(path: Path) -> ArtifactError:
    """Return the error for more shards than the system lets a process hold open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ArtifactError(path, f"more files than the {hard:,} that a process may hold open", "raise it: ulimit -Hn")
