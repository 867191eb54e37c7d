"""Results -> DICOM files, numbered as the rows of the table: ``00001_map.dcm``, ``_overlay.dcm``, ``_report.dcm``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pydicom.dataset import Dataset

from aeflow._types import Floats32
from aeflow.data.loader import image_of
from aeflow.data.records import Record
from aeflow.imageio.dicom.reader import is_dicom
from aeflow.imageio.errors import ImageError
from aeflow.results.dicom.identifiers import ModelIdentity, Result
from aeflow.results.dicom.overlay import overlay
from aeflow.results.dicom.parametric_map import parametric_map
from aeflow.results.dicom.referenced_image import KEYS, REMEDY_EXPORT_FROM_ARCHIVE, ReferencedImage
from aeflow.results.dicom.structured_report import report
from aeflow.scoring.scorer import Score

START = 132  # bytes that show whether a file is DICOM


def write_results(
    source: Path, results: Iterable[tuple[Result, Floats32]], model: ModelIdentity, out: Path, number: int = 1
) -> tuple[list[Path], list[ImageError]]:
    """Write what a model said of a DICOM file: the paths written, and why any object was not.

    Each result comes with the image as its reader gave it, (rows, columns) or (rows, columns, 3) in [0, 1]. One image
    gets a map, an overlay and a report; frames of one file share map and report, and each has an overlay, numbered from
    ``number``. An object that cannot be made leaves the others alone.
    """
    sheaf = FileResults(source, model, out, number)
    for row, (result, pixels) in enumerate(results, number):
        sheaf.add(row, result, pixels)
    sheaf.close()
    return sheaf.written, sheaf.refused


class FileResults:
    """The results on one file, written as they come; map and report follow at the end."""

    def __init__(self, path: Path, model: ModelIdentity, out: Path, number: int) -> None:
        self.path, self.model, self.out, self.number = path, model, out, number
        self.written: list[Path] = []
        self.refused: list[ImageError] = []
        self._results: list[Result] = []
        self._made: list[Dataset] = []
        self._source: ReferencedImage | None = None
        try:
            self._source = ReferencedImage(path)
        except ImageError as error:
            self.refused.append(error)

    @property
    def first(self) -> int | None:
        """The number of the first frame, None where the file holds a single image."""
        return 1 if self._source is not None and self._source.several else None

    def holds(self, frame: int | None) -> bool:
        """Whether a result on this frame was added."""
        return any(result.frame == frame for result in self._results)

    def add(self, number: int, result: Result, pixels: Floats32 | ImageError) -> None:
        """Write the overlay of one image, and keep its score and anomaly map."""
        if (source := self._source) is None:
            return
        kept = {"anomaly": result.score.maps["anomaly"]}
        self._results.append(replace(result, score=replace(result.score, maps=kept, pictures=())))
        if isinstance(pixels, ImageError):
            self.refused.append(pixels)
            return
        image = pixels
        self._write("overlay", number, lambda: overlay(source, result, image, self.model))

    def close(self) -> None:
        """Write map and report of what was added."""
        if (source := self._source) is not None and self._results:
            results, model = self._results, self.model
            self._write("map", self.number, lambda: parametric_map(source, results, model))
            self._write("report", self.number, lambda: report(source, results, self._made, model))

    def _write(self, kind: str, number: int, make: Callable[[], Dataset]) -> None:
        file = self.out / f"{number:05d}_{kind}.dcm"
        temporary = file.with_name(file.name + ".part")
        try:
            made = make()
            made.save_as(temporary, enforce_file_format=True)
            os.replace(temporary, file)
        except ImageError as error:
            self.refused.append(error)
            return
        except OSError:  # the disk's fault, not the header's
            raise
        except Exception as error:  # highdicom and pydicom raise many kinds for headers that break the rules
            found = f"no {kind} can be made from its header ({type(error).__name__})"
            self.refused.append(ImageError(self.path, found, REMEDY_EXPORT_FROM_ARCHIVE))
            return
        finally:
            temporary.unlink(missing_ok=True)
        self.written.append(file)
        evidence = Dataset()
        for keyword in KEYS:
            setattr(evidence, keyword, made[keyword].value)
        self._made.append(evidence)


class Writer:
    """The results of a batch, row by row; ``refused`` and ``not_dicom`` tell what there are none of."""

    def __init__(self, folder: Path, model: ModelIdentity) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.model = folder, model
        self.refused: list[tuple[Record, ImageError]] = []
        self.not_dicom = 0
        self._open: tuple[Record, FileResults] | None = None

    def add(self, number: int, record: Record, score: Score) -> None:
        """Take the score, with its maps, of a row; the rows of one file must follow one another."""
        with record.path.open("rb") as file:
            start = file.read(START)
        if not is_dicom(start):
            self.not_dicom += 1
            return
        if self._open is None or self._open[0].path != record.path or self._open[1].holds(record.slice_number):
            self.close()
            self._open = record, FileResults(record.path, self.model, self.folder, number)
        try:
            pixels: Floats32 | ImageError = image_of(record).pixels
        except ImageError as error:
            pixels = error
        sheaf = self._open[1]
        sheaf.add(number, Result(score, record.slice_number or sheaf.first, score.outside), pixels)

    def close(self) -> None:
        """Write what waits for the end of its file."""
        if self._open is not None:
            record, sheaf = self._open
            sheaf.close()
            self.refused += [(record, error) for error in sheaf.refused]
            self._open = None
