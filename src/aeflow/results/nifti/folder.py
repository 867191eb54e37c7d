"""Folder of NIfTI maps, each named by the first row of the table that it shows: ``00001.nii.gz``.

A NIfTI volume's map has its shape and its space. DICOM slices and frames of one series become a volume where they are
parallel and evenly spaced. A voxel is 0 where nothing counts and where its slice was refused: the mean of
normals, since each term is standardised, and viewers and programs of neuroimaging take it for nothing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from aeflow.data.records import Record
from aeflow.errors import count
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Plane
from aeflow.imageio.reader import read_planes
from aeflow.reporting.overlay import resample
from aeflow.results.nifti.kept_maps import KeptMaps
from aeflow.results.nifti.map_file import fits_memory, header_in, write_map
from aeflow.results.nifti.series import NoVolumeError, grid_of
from aeflow.results.nifti.volume_map import VolumeMap
from aeflow.results.numbered import file_name, former, numbered
from aeflow.runtime.terminal import print
from aeflow.scoring.score_files import Sink
from aeflow.scoring.scorer import Score

ENDING = r"\.nii\.gz"


class NiftiFolder(Sink):
    """Maps of volumes, each written when its last slice is scored, and of DICOM series, written at the end.

    ``no_volume`` counts the images that belong to neither; ``names`` has the map's file of each row that has one, once
    all are written.
    """

    needs_maps = True

    def __init__(self, folder: Path, overwrite: bool = False) -> None:
        self.folder, self.overwrite = folder, overwrite
        self.no_volume = 0
        self.names: dict[int, str] = {}
        self._volume: VolumeMap | None = None
        self._series: dict[tuple[str | None, ...], _Series] = {}
        self._frames: tuple[Path | None, list[Plane | None]] = (None, [])
        self._held = ExitStack()

    def check(self) -> None:
        former(self.folder, ENDING, self.inputs, self.overwrite)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._staged = stack.enter_context(numbered(self.folder, ENDING, self.inputs, self.overwrite))
            self._kept = KeptMaps(stack.enter_context(tempfile.TemporaryFile(dir=self._staged)))
            self._held = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._held.__exit__(kind, error, trace)  # so that the former maps stay
            return
        with self._held:
            self._close()
            for series in self._series.values():
                self._write_series(series)
            if self.no_volume:
                verb = "belongs" if self.no_volume == 1 else "belong"
                found = f"{count(self.no_volume, 'image')} {verb} to no volume and no series of slices"
                print(f"note: {found}: no NIfTI map of {'it' if self.no_volume == 1 else 'them'}", file=sys.stderr)

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        """Take the map of a row; the rows of one file must follow one another."""
        header = record.header
        if header is not None and header.space is not None and record.at is not None:
            if self._volume is None or not self._volume.goes_on(record):
                self._close()
                self._volume = VolumeMap(record, header.space)
            self._volume.add(number, record, result)
            return
        plane = self._plane(record)
        if header is None or plane is None or header.uids is None or header.uids.series is None:
            self.no_volume += isinstance(result, Score)
            return
        key = (header.uids.study, header.uids.series, plane.frame_of_reference)
        series = self._series.setdefault(key, _Series(record.path))
        series.numbers.append(number)
        series.planes.append(plane)
        series.places.append(self._kept.add(result.maps["anomaly"]) if isinstance(result, Score) else None)

    def _plane(self, record: Record) -> Plane | None:
        """Return where the image of a row lies in the patient; None if it lies nowhere, or that is not known."""
        if record.header is None or record.header.uids is None or record.at is None:
            return None if record.header is None else record.header.plane
        if self._frames[0] != record.path:  # the frames of a file follow one another
            try:
                self._frames = record.path, decoders().submit(read_planes, record.path).result()
            except ImageError:  # its frames are refused for the same reason
                self._frames = record.path, []
        planes = self._frames[1]
        return planes[record.at.index] if record.at.index < len(planes) else None

    def _close(self) -> None:
        """Write the map of the volume that is still open."""
        if (volume := self._volume) is not None and volume.scored and not volume.refused:
            if volume.voxels is None:
                self._note(volume.path, "its map would be too large", "crop it")
            else:
                write_map(self._place(volume.numbers), volume.voxels, header_in(volume.space))
        self._volume = None

    def _write_series(self, series: _Series) -> None:
        """Write the map of a series, or say why there is none."""
        if not any(place is not None for place in series.places):
            return
        remedy = "give all slices of one volume, each once"
        try:
            grid = grid_of(series.planes)
        except NoVolumeError as error:
            self._note(series.path, f"the first of a series with {error}", remedy)
            return
        if not fits_memory(grid.shape):
            self._note(series.path, "the first of a series whose map would be too large", "give a part of it")
            return
        voxels, size = np.zeros(grid.shape, np.float32, order="F"), series.planes[0].size
        for k, i in enumerate(grid.order):
            if (place := series.places[i]) is not None:
                voxels[:, :, k] = resample(self._kept.at(place), size).T
        write_map(self._place(series.numbers), voxels, grid.header())

    def _place(self, numbers: Sequence[int]) -> Path:
        """Return where the map of some rows goes, by the first of them."""
        name = file_name(numbers[0], ".nii.gz")
        self.names |= dict.fromkeys(numbers, name)
        return self._staged / name

    def _note(self, path: Path, found: str, remedy: str) -> None:
        """Say why there is no map."""
        print(f"note: {ImageError(path, f'{found}: no NIfTI map', remedy)}", file=sys.stderr)


@dataclass(slots=True)
class _Series:
    """Slices of a series: where each lies, and where its map is kept; None if it was refused."""

    path: Path  # of the first
    numbers: list[int] = field(default_factory=list)  # rows
    planes: list[Plane] = field(default_factory=list)
    places: list[int | None] = field(default_factory=list)
