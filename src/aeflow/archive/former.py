"""What an archive knows of files that were scored before: their state and content, in 48 bytes each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

import numpy as np

from aeflow.archive.item import Item
from aeflow.archive.part_scorer import UNCHANGED
from aeflow.errors import ArtifactError, printable
from aeflow.runtime.files import encodable

READ = ["path", "sha256", "bytes", "version"]
# Hashes of 64 bits: two names that share one are only taken for changed; a state is one of its name, so that a changed
# file is taken for unchanged once in 2^64.
KIND = np.dtype([("name", np.uint64), ("state", np.uint64), ("content", "V32")])


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
            elif item.version is None or self._found["state"][at] != _hash(name, item.bytes, item.version):
                yield item._replace(former=self._found["content"][at].tobytes().hex())


def _files_of(part: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield name, state and content of the files of a part, also of those whose content was found unchanged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(part, columns=READ, page_checksum_verification=True)
    except (OSError, pa.ArrowInvalid) as error:
        remedy = "delete it, and repeat the command that scored it"
        raise ArtifactError(part, f"damaged ({type(error).__name__})", remedy) from error
    rows = zip(*(table.column(name).to_pylist() for name in READ), strict=True)
    unchanged = json.loads((table.schema.metadata or {}).get(UNCHANGED, b"[]"))
    for (path, sha256, size, version), _ in groupby([*rows, *map(tuple, unchanged)]):
        if sha256 is not None:
            yield _hash(path), _hash(path, size, version), bytes.fromhex(sha256)


def _hash(*parts: object) -> int:
    text = encodable("\0".join(map(str, parts)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
