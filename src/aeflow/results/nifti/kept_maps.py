"""Maps on disk in an open file: the slices of many series may come in any order, and a volume needs all of its own."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from aeflow._types import Floats32


class KeptMaps:
    """Maps of one shape, one behind the other."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._shape: tuple[int, ...] = ()

    def add(self, score_map: Floats32) -> int:
        """Keep a map, and return where it is."""
        self._shape = score_map.shape
        place = self._file.seek(0, 2)
        self._file.write(score_map.astype(np.float32).tobytes())
        return place

    def at(self, place: int) -> Floats32:
        """Return the map at a place."""
        self._file.seek(place)
        content = self._file.read(4 * int(np.prod(self._shape)))
        return np.frombuffer(content, np.float32).reshape(self._shape)
