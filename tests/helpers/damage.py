"""Files with one bit flipped, as a bad disk or memory leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def flip(path: Path, seed: int = 0) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng([seed, len(content)])
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def flips(path: Path, number: int) -> Iterator[int]:
    """Yield with one bit of a file flipped, another each time; it is whole again at the end."""
    whole = path.read_bytes()
    for seed in range(number):
        path.write_bytes(whole)
        flip(path, seed)
        yield seed
    path.write_bytes(whole)
