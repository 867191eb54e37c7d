"""Fixed scale of each anomaly map, from the pixels of held-out normals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MAX_MAPPED_NORMALS = 400  # normals whose maps give the scale; more would only fill the memory


@dataclass(frozen=True, slots=True)
class MapScale:
    """Fixed scale of a map, from the pixels of held-out normals."""

    low: float  # their 90 % quantile: pixels below are drawn clear
    high: float  # their 99.9 % quantile
    threshold: float  # their 99 % quantile: above it a pixel counts as abnormal

    @classmethod
    def of(cls, pixels: NDArray[np.floating[Any]]) -> Self:
        """Fit the scale on the map pixels of normal images."""
        low, threshold, high = np.quantile(pixels, (0.9, 0.99, 0.999))
        return cls(float(low), float(high), float(threshold))


class MapPixels:
    """Pixels of each map, collected from normals one by one."""

    def __init__(self) -> None:
        self._pixels: dict[str, list[NDArray[np.float32]]] = {}

    def add(self, maps: Mapping[str, NDArray[np.float32]], region: NDArray[np.float32] | None) -> None:
        """Add the map pixels of one image, those that count: ``region`` (H, W) in [0, 1], None if all of them do."""
        for name, values in maps.items():
            self._pixels.setdefault(name, []).append(values.ravel() if region is None else values[region > 0.5])

    def scales(self) -> dict[str, MapScale]:
        """Return the scale of each map, over all pixels."""
        return {name: MapScale.of(np.concatenate(pixels)) for name, pixels in self._pixels.items()}
