"""Item of a plan: one file, or object of a store, that is to be scored."""

from __future__ import annotations

from typing import NamedTuple

SCHEME = "://"


class Item(NamedTuple):
    """One file or object of a source; small, since an archive has millions."""

    name: str  # as the user gave it, or as found below what the user gave; what its rows are named by
    path: str  # absolute path, or URL
    label: int | None = None  # 0 normal, 1 abnormal, None unknown
    patient: str | None = None  # as a table of scores may hold it; None if only the name or the header says it
    bytes: int | None = None  # when it was listed; None if that is not known
    version: str | None = None  # time of change in ns, or the store's own mark; another one may be other content
    former: str | None = None  # SHA-256 of the content that was scored under this name before


def scheme_of(text: str) -> str:
    """Return the scheme of a URL, empty for a path.

    >>> scheme_of("s3://bucket/scan.dcm"), scheme_of("images/scan.dcm")
    ('s3', '')
    """
    scheme, found, _ = text.partition(SCHEME)
    return scheme.lower() if found else ""
