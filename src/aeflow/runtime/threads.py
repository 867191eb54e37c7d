"""Cores of the machine, and how many threads compute at once in this process: its share where several score."""

from __future__ import annotations

import os

_share: int | None = None


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_share(threads: int) -> None:
    """Let this process compute with so many threads, before it opens a model."""
    global _share
    _share = threads


def share() -> int | None:
    """Return the threads that this process was given; None if it has all cores to itself."""
    return _share


def threads() -> int:
    """Return how many threads compute at once."""
    return _share or os.cpu_count() or 1
