"""Files with one bit flipped, as a bad disk or memory leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def flip(path: Path, seed: int = 0, until: int | None = None, begin: int = 0) -> None:
    """Flip one bit of a file, or of its bytes from ``begin`` to ``until``."""
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng([seed, len(content)])
    content[int(rng.integers(begin, until or len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def flips(path: Path, number: int, until: int | None = None, begin: int = 0) -> Iterator[int]:
    """Yield with one bit of a file, or of a part of it, flipped, another each time; it is whole again at the end."""
    whole = path.read_bytes()
    for seed in range(number):
        path.write_bytes(whole)
        flip(path, seed, until, begin)
        yield seed
    path.write_bytes(whole)


def pages_of(parquet: Path) -> int:
    """Return the number of bytes of a Parquet file before its footer, which are its cells in pages."""
    content = parquet.read_bytes()
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")
