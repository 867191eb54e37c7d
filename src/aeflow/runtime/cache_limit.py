"""Limit of the cache's size, ``AEFLOW_CACHE_LIMIT``: what was unused longest goes first, and nothing that is in use.

Parts go one by one: shards of features, and graphs. A process that reads features keeps a locked file ``using-<name>``
beside their shards for as long as it needs them, and marks each shard that it opens. So a shard that was last used
before the oldest such process began is in nobody's use. Where locks or rights are missing a part may go too early: who
has it open reads on, as after ``aeflow cache clear``.
"""

from __future__ import annotations

import functools
import math
import os
import re
import sys
import time
import uuid
import weakref
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from aeflow.errors import OutputError, SettingsError
from aeflow.runtime.cache import (
    ABANDONED,
    DELETED,
    FEATURES,
    GRAPHS,
    SHARD,
    USING,
    WRITING,
    changed,
    discard,
    keyed,
    mark_used,
    size_of,
)
from aeflow.runtime.locks import exclusive
from aeflow.runtime.terminal import print

LIMIT = "AEFLOW_CACHE_LIMIT"
UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True, slots=True)
class Part:
    """Part of the cache that is deleted as one."""

    folder: Path
    used: float  # when it was last used, in seconds since the epoch
    size: int  # bytes
    in_use: bool


class Use:
    """Use of some shards by this process, which others' limits respect until it is forgotten."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._held = folder, ExitStack()
        self._begun = False

    def mark(self, shard: Path) -> None:
        """Note that a shard is used now, and from now on."""
        if not self._begun:
            self._begun = True
            with suppress(OSError, OutputError):  # a cache may be read-only, or be deleted just now
                self._begin()
        mark_used(shard)
        mark_used(self._folder)

    def _begin(self) -> None:
        place = self._folder / f"{USING}{uuid.uuid4().hex}"
        self._held.enter_context(exclusive(place, place))
        weakref.finalize(self, _end, self._held, place)


def _end(held: ExitStack, place: Path) -> None:
    place.unlink(missing_ok=True)
    held.close()


def cache_limit() -> int | None:
    """Return how many bytes the cache may hold by ``AEFLOW_CACHE_LIMIT``; None without. Raises SettingsError.

    >>> os.environ["AEFLOW_CACHE_LIMIT"] = "1.5TB"
    >>> cache_limit()
    1500000000000
    >>> del os.environ["AEFLOW_CACHE_LIMIT"]
    """
    given = os.environ.get(LIMIT, "").strip()
    if not given:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([MGT]B)", given)
    if not found:
        raise SettingsError(LIMIT, f"{given!r} is no size", "write for instance 500MB, 200GB or 1.5TB")
    return int(float(found[1]) * UNITS[found[2]])


def make_room(root: Path, needed: int) -> None:
    """Delete what was unused longest until ``needed`` more bytes are within the limit; nothing happens without one.

    A note says once if what is in use leaves too little room; the cache then grows beyond the limit.
    """
    limit = cache_limit()
    if limit is None:
        return
    parts = _parts(root)
    excess = sum(part.size for part in parts) + needed - limit
    for part in sorted(parts, key=lambda part: part.used):
        if excess <= 0:
            return
        if not part.in_use:
            discard(part.folder, root)
            excess -= part.size
    if excess > 0:
        _note(limit)


def _parts(root: Path) -> list[Part]:
    """Return what the cache holds, part by part."""
    found = [Part(path, changed(path), size_of(path), False) for path in keyed(root / GRAPHS)]
    found += [Part(path, changed(path), size_of(path), True) for path in root.glob(f"{DELETED}*")]
    for folder in keyed(root / FEATURES):
        begun = _oldest_use(folder)
        for path in folder.glob(f"{SHARD}*"):
            found.append(Part(path, used := changed(path), size_of(path), used >= begun))
        found += [Part(path, changed(path), size_of(path), True) for path in folder.glob(f"{WRITING}*")]
    return found


def _oldest_use(folder: Path) -> float:
    """Return since when a process has been using shards of a folder, in seconds since the epoch; infinity if none is.

    What a killed process left is deleted.
    """
    begun = math.inf
    for place in folder.glob(f"{USING}*"):
        when = changed(place)
        try:
            with exclusive(place, place, surely=True):
                place.unlink()
        except OutputError:
            begun = min(begun, when)
        except OSError:  # no locks here, or another user's
            if time.time() - when < ABANDONED:
                begun = min(begun, when)
    return begun


@functools.cache
def _note(limit: int) -> None:
    held = "what is in use takes more, and nothing of it is deleted"
    print(f"note: the cache grows beyond {LIMIT} ({limit / 1e9:,.1f} GB): {held}", file=sys.stderr)
