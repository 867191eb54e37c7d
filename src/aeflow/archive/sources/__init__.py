"""Sources of an archive by the scheme of their URL: how files are listed, and how one is fetched to be read.

A new one is a file here and a line in SCHEMES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aeflow.archive.item import Item, scheme_of
from aeflow.archive.sources import dicomweb, local, remote
from aeflow.archive.sources.fetched import Fetched
from aeflow.errors import DataError


@dataclass(frozen=True, slots=True)
class Scheme:
    """Way to the files of one kind of source."""

    items: Callable[[str], Iterator[Item]]  # all files of a source, in the order in which they are scored
    fetch: Callable[[Item], Fetched]  # one of them as a file; ImageError if it cannot be had
    folder: Callable[[str], str | None]  # the folder of which every file is an item; None if the source is none


LOCAL = Scheme(local.items, local.fetch, local.folder)
REMOTE = Scheme(remote.items, remote.fetch, lambda source: None)
DICOMWEB = Scheme(dicomweb.items, dicomweb.fetch, lambda source: None)
SCHEMES = {
    "": LOCAL,
    **dict.fromkeys(remote.SCHEMES, REMOTE),
    **dict.fromkeys(dicomweb.SCHEMES, DICOMWEB),
}


def way_to(source: str) -> Scheme:
    """Return how a source is listed and fetched; DataError for an unknown scheme."""
    scheme = scheme_of(source)
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES if name)
        raise DataError(
            f"{scheme}://", "no way to it is known", f"name a folder, a table with a column path, or {known}"
        )
    return SCHEMES[scheme]
