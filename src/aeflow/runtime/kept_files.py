"""Files of the cache that took long to make: read back only as they were written, and nothing depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aeflow.runtime.cache import MAKING, cache_root, discard, graph_folder, mark_used, note_damage, seal, verify
from aeflow.runtime.cache_limit import make_room
from aeflow.runtime.folders import publish, scratch


def read_kept(key: str, *names: str) -> dict[str, bytes] | None:
    """Return the files that were kept under a key, 64 hex digits, by name; None if they are not there, or damaged."""
    place = graph_folder(cache_root(), key)
    if not place.exists():
        return None
    try:
        verify(place, *names)
        found = {name: (place / name).read_bytes() for name in names}
    except (OSError, ValueError) as error:
        drop(key, error)
        return None
    mark_used(place)
    return found


def keep(key: str, files: Mapping[str, bytes], what: str) -> None:
    """Keep files under a key; ``what`` names them in the list of the cache.

    A cache that is full, read-only or nobody's keeps nothing: they are made again next time.
    """
    place = graph_folder(cache_root(), key)
    with suppress(OSError):
        make_room(cache_root(), sum(map(len, files.values())))
        with scratch(place.parent, MAKING) as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            seal(folder, what)
            publish(folder, place)  # refused if another process was faster


def drop(key: str, error: Exception) -> None:
    """Throw away what is kept under a key, with a note that says why; nothing if the cache was cleared just now."""
    place: Path = graph_folder(cache_root(), key)
    if place.exists():
        note_damage(place, error)
        discard(place, cache_root())
