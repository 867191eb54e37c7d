"""The cache on disk: its place, its layout, what it holds, and how it is cleared.

::

    CACHE/features/<key>/shard-<name>/     features of up to 256 images, and about.json
    CACHE/features/<key>/writing-<name>/   a shard that is being written, or was when its process was killed
    CACHE/features/<key>/using-<name>      locked by a process that reads shards here (``cache_limit``)
    CACHE/graphs/<key>/                    the graph of one model, or what it was compiled to, and about.json
    CACHE/graphs/.export-<name>/           a graph that is being made, or was when its process was killed
    CACHE/deleted-<name>/                  what is being deleted, or was when its process was killed

The cache may be cleared while other processes use it; all that it costs them is to compute again. A shard or graph goes
by one rename, so it is whole or absent; what a process has opened stays readable to it until it ends; and what is being
written is spared, unless nobody has touched it for a day. What a killed process was writing also goes when the next one
writes beside it. Nothing but the folders above is ever deleted, whatever AEFLOW_CACHE names.

``about.json`` seals a folder: it holds the SHA-256 of each file in it, as a model's does, and of itself. What differs
is damaged, and whoever reads it throws it away and makes it anew. (A CRC would be hardly faster: the disk is slower
than either.)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from aeflow.home import in_home
from aeflow.runtime.files import digest, file_digest, write_text
from aeflow.runtime.terminal import print

FEATURES, GRAPHS = "features", "graphs"
SHARD, WRITING, MAKING, DELETED = "shard-", "writing-", ".export-", "deleted-"  # beginnings of folders' names
USING = "using-"  # beginning of a file's name
ABOUT, IMAGES = "about.json", "images.json"
KEY = re.compile(r"[0-9a-f]{32}")
ABANDONED = 24 * 3600.0  # seconds after which nobody is writing a folder any more


@dataclass(frozen=True, slots=True)
class Entry:
    """Features of one kind, one graph, or what a killed process left."""

    kind: str  # features, graph or unfinished
    what: str
    images: int
    size: int  # bytes
    used: float  # when it was last used, in seconds since the epoch
    folders: Sequence[Path]


def cache_root() -> Path:
    """Return ``$AEFLOW_CACHE``, else ``aeflow`` in the user's cache folder."""
    given = os.environ.get("AEFLOW_CACHE")
    return in_home(lambda: user_cache_path("aeflow", appauthor=False)) if given is None else Path(given)


def feature_folder(root: Path, key: str) -> Path:
    """Return the folder of the features with this key, 64 hex digits."""
    return root / FEATURES / key[:32]


def graph_folder(root: Path, key: str) -> Path:
    """Return the folder of the graph with this key, 64 hex digits."""
    return root / GRAPHS / key[:32]


def seal(folder: Path, what: str) -> None:
    """Write what a finished shard or graph is, with a checksum of each of its files, for ``entries`` and ``verify``."""
    about = {"what": what, "files": {path.name: file_digest(path) for path in sorted(folder.iterdir())}}
    write_text(folder / ABOUT, json.dumps({**about, "sha256": digest(about)}))


def verify(folder: Path, *names: str) -> None:
    """Raise ValueError or OSError unless these files of a folder are there as ``seal`` found them."""
    files = _about(folder)["files"]
    for name in names:
        if file_digest(folder / name) != files.get(name):
            raise ValueError(f"{name}: checksum differs")


def note_damage(folder: Path, error: Exception) -> None:
    """Say on stderr that a damaged part of the cache is thrown away."""
    print(f"note: a part of the cache is damaged, and made anew: {folder.name}: {error}", file=sys.stderr)


def mark_used(folder: Path) -> None:
    """Note that a folder of the cache is used now."""
    with suppress(OSError):  # a cache may be read-only, or be cleared just now: then only the age is a little off
        os.utime(folder)


def entries(root: Path, now: float | None = None) -> list[Entry]:
    """Return what the cache holds, the longest unused first."""
    now = time.time() if now is None else now
    found = [*_features(root), *_graphs(root), *_unfinished(root, now)]
    return sorted(found, key=lambda entry: entry.used)


def clear(chosen: Iterable[Entry], root: Path) -> int:
    """Delete entries of the cache under ``root``; return how many bytes that freed."""
    freed = 0
    for entry in chosen:
        for folder in entry.folders:
            discard(folder, root)
        freed += entry.size
    return freed


def discard(folder: Path, root: Path) -> None:
    """Delete one folder of the cache under ``root``, for others in one step; nothing happens if it is gone already."""
    if not folder.name.startswith(DELETED):
        if not root.exists():  # someone has deleted all of the cache
            return
        aside = Path(tempfile.mkdtemp(dir=root, prefix=DELETED))
        with suppress(FileNotFoundError):  # another process was faster
            folder.rename(aside / folder.name)
        folder = aside
    shutil.rmtree(folder, ignore_errors=True)  # what cannot be deleted is listed again, as unfinished


def _features(root: Path) -> Iterator[Entry]:
    for folder in keyed(root / FEATURES):
        shards = sorted(folder.glob(f"{SHARD}*"))
        if shards:
            images = sum(map(_images, shards))
            yield Entry("features", _what(shards[0]), images, sum(map(size_of, shards)), changed(folder), shards)


def _graphs(root: Path) -> Iterator[Entry]:
    for folder in keyed(root / GRAPHS):
        yield Entry("graph", _what(folder), 0, size_of(folder), changed(folder), [folder])


def _unfinished(root: Path, now: float) -> Iterator[Entry]:
    for folder in root.glob(f"{DELETED}*"):
        yield Entry("unfinished", "a deletion", 0, size_of(folder), changed(folder), [folder])
    writing = [path for folder in keyed(root / FEATURES) for path in folder.glob(f"{WRITING}*")]
    for what, folders in (("features", writing), ("a graph", (root / GRAPHS).glob(f"{MAKING}*"))):
        for folder in folders:
            if now - changed(folder) > ABANDONED:
                yield Entry("unfinished", what, 0, size_of(folder), changed(folder), [folder])


def keyed(folder: Path) -> list[Path]:
    """Return the folders of one kind of features, or of one graph, each."""
    return [path for path in sorted(folder.glob("*")) if KEY.fullmatch(path.name) and path.is_dir()]


def _about(folder: Path) -> dict[str, Any]:
    """Return what ``seal`` wrote; raises ValueError or OSError if it is missing, damaged, or of an earlier version."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if not isinstance(about, dict) or digest({k: v for k, v in about.items() if k != "sha256"}) != about.get("sha256"):
        raise ValueError(f"{ABOUT}: checksum differs")
    return about


def _what(folder: Path) -> str:
    try:
        return str(_about(folder)["what"])
    except (OSError, ValueError):
        return "damaged, or written by an earlier version"


def _images(shard: Path) -> int:
    """Return the number of images in a shard; 0 if it is damaged, which is reported when it is used."""
    try:
        verify(shard, IMAGES)
        return len(json.loads((shard / IMAGES).read_text(encoding="utf-8"))["rows"])
    except (OSError, ValueError):
        return 0


def changed(path: Path) -> float:
    """Return when a folder changed, in seconds since the epoch; now if it has just gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it is being deleted
            total += path.lstat().st_size
    return total
