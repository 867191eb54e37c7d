"""What an archive knows of files that were scored before: their state and content, in 56 bytes each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

import numpy as np

from aeflow.archive.item import Item
from aeflow.archive.part_scorer import UNCHANGED
from aeflow.data.parquet import schema_of
from aeflow.errors import ArtifactError, printable
from aeflow.results.table_rows import REMEDY, rows_of
from aeflow.runtime.files import encodable

READ = ["path", "sha256", "bytes", "version"]
# Hashes of 64 bits: two names that share one are only taken for changed; a state is one of its name, so that a file of
# another time and the same length is taken for unchanged once in 2^64.
KIND = np.dtype([("name", np.uint64), ("bytes", np.uint64), ("state", np.uint64), ("content", "V32")])


class FormerFiles:
    """Files of an archive's parts: of each name, what was read last."""

    def __init__(self, parts: Iterable[Path]) -> None:
        found = np.concatenate([np.empty(0, KIND), *(np.array(list(_files_of(part)), KIND) for part in parts)])
        found = found[np.argsort(found["name"], kind="stable")]
        last = np.append(found["name"][1:] != found["name"][:-1], True)[: len(found)]
        self._found = found[last]

    def changed(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items that are new, or not surely as they were; with the content that their name had before."""
        names = np.ascontiguousarray(self._found["name"])
        for item in items:
            name = printable(item.name)
            key = np.uint64(_hash(name))
            at = int(np.searchsorted(names, key))
            if at == len(names) or names[at] != key:
                yield item
            elif (
                item.version is None
                or item.bytes not in (None, self._found["bytes"][at])  # a PACS does not say how long its instances are
                or self._found["state"][at] != _hash(name, item.version)
            ):
                yield item._replace(former=self._found["content"][at].tobytes().hex())


def _files_of(part: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield name, length, state and content of the files of a part, also of those whose content was found unchanged.

    Raises ArtifactError if it is damaged: also by columns of other names or kinds, which Parquet has no checksum of.
    """
    try:
        schema = schema_of(part)
        if missing := set(READ).difference(schema.names):
            raise ValueError(f"no column {', '.join(sorted(missing))}")
        rows = [tuple(row[name] for name in READ) for row in rows_of(part, READ)]
        unchanged = json.loads((schema.metadata or {}).get(UNCHANGED, b"[]"))
        for (path, sha256, size, version), _ in groupby([*rows, *map(tuple, unchanged)]):
            if sha256 is not None:
                yield _hash(path), int(size), _hash(path, version), bytes.fromhex(sha256)
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(part, f"damaged ({type(error).__name__})", REMEDY) from error


def _hash(*parts: object) -> int:
    text = encodable("\0".join(map(str, parts)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
