"""The fixed scale of each anomaly map, from the pixels of held-out normals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MAX_MAPPED_NORMALS = 400  # normals from which the maps' scale is taken; more would only fill the memory


@dataclass(frozen=True, slots=True)
class MapScale:
    """The fixed scale of a map, from the pixels of held-out normals."""

    low: float  # their 90 % quantile: what lies below is drawn clear
    high: float  # their 99.9 % quantile
    threshold: float  # their 99 % quantile: above it a pixel counts as abnormal

    @classmethod
    def of(cls, pixels: NDArray[np.floating[Any]]) -> Self:
        """That of all pixels of some normals."""
        low, threshold, high = np.quantile(pixels, (0.9, 0.99, 0.999))
        return cls(float(low), float(high), float(threshold))


class MapPixels:
    """The pixels of each map, gathered from normals one by one."""

    def __init__(self) -> None:
        self._pixels: dict[str, list[NDArray[np.float32]]] = {}

    def add(self, maps: Mapping[str, NDArray[np.float32]]) -> None:
        """Those of one image."""
        for name, one in maps.items():
            self._pixels.setdefault(name, []).append(one.ravel())

    def scales(self) -> dict[str, MapScale]:
        """The scale of each map, over all pixels."""
        return {name: MapScale.of(np.concatenate(of_map)) for name, of_map in self._pixels.items()}
