"""Anomaly map of a NIfTI volume, put together slice by slice where the volume's own voxels are stored."""

from __future__ import annotations

import numpy as np

from aeflow._types import Floats32
from aeflow.data.records import Record
from aeflow.imageio.errors import FileError, ImageError
from aeflow.imageio.nifti_space import NiftiSpace, canonical, slice_of
from aeflow.reporting.overlay import resample
from aeflow.results.nifti.map_file import fits_memory
from aeflow.scoring.scorer import Score


class VolumeMap:
    """Map of a NIfTI volume that is being put together, slice by slice."""

    def __init__(self, record: Record, space: NiftiSpace) -> None:
        self.path, self.space = record.path, space
        self.numbers: list[int] = []  # rows of its slices
        self.scored = self.refused = False
        self.voxels: Floats32 | None = None
        self._index = -1
        if fits_memory(space.volume):
            self.voxels = np.zeros(space.volume, np.float32, order="F")
            self._turned = canonical(self.voxels, space.orientation)

    def goes_on(self, record: Record) -> bool:
        """Return if a record is a later slice of this volume; the same one again begins a new map."""
        return record.path == self.path and record.at is not None and record.at.index > self._index

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        """Lay the map of a slice, of row ``number``, to where its voxels are stored."""
        assert record.at is not None, "a slice"
        self.numbers.append(number)
        self._index = record.at.index
        self.refused |= isinstance(result, FileError)
        if isinstance(result, Score):
            self.scored = True
            if self.voxels is not None:
                place = slice_of(self._turned, record.at.index, record.at.axis or "axial")
                place[...] = resample(result.maps["anomaly"], (place.shape[0], place.shape[1]))
