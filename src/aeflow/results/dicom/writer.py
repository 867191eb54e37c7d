"""Files of DICOM results, numbered as the rows of the table: ``00001_map.dcm``, ``_overlay.dcm``, ``_report.dcm``."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset

from aeflow._types import Floats32
from aeflow.data.loader import header_of
from aeflow.data.records import Record
from aeflow.imageio.errors import ImageError
from aeflow.results.dicom.identifiers import ModelIdentity, Result
from aeflow.results.dicom.overlay import overlay
from aeflow.results.dicom.parametric_map import parametric_map
from aeflow.results.dicom.referenced_image import KEYS, REMEDY_EXPORT_FROM_ARCHIVE, ReferencedImage
from aeflow.results.dicom.structured_report import report
from aeflow.results.numbered import file_name, former, numbered
from aeflow.runtime.files import sync_folder, write_bytes
from aeflow.scoring.score_files import Sink
from aeflow.scoring.scorer import Score

# What highdicom and pydicom raise for headers that break the rules. What is not among them, as MemoryError and
# ImportError, is not the header's fault and ends the run.
HEADER_FAULTS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, struct.error)


def write_results(
    source: Path, results: Iterable[tuple[Result, Floats32]], model: ModelIdentity, out: Path, number: int = 1
) -> tuple[list[Path], list[ImageError]]:
    """Write the results on a DICOM file; return the paths written, and why any object was not.

    Each result comes with the image as its reader gave it, (rows, columns) or (rows, columns, 3) in [0, 1]. One image
    gets a map, an overlay and a report; frames of one file share map and report, and each has an overlay, numbered from
    ``number``. An object that cannot be made leaves the others alone.
    """
    of_file = FileResults(source, header_of(source), model, out, number)
    for row, (result, pixels) in enumerate(results, number):
        of_file.add(row, result, pixels)
    of_file.close()
    sync_folder(out)
    return of_file.written, of_file.refused


class FileResults:
    """Results on one file: overlays are written as they come, map and report at the end."""

    def __init__(self, path: Path, header: Dataset | ImageError, model: ModelIdentity, out: Path, number: int) -> None:
        self.path, self.model, self.out, self.number = path, model, out, number
        self.written: list[Path] = []
        self.refused: list[ImageError] = []
        self._results: list[Result] = []
        self._made: list[Dataset] = []
        self._source: ReferencedImage | None = None
        try:
            self._source = ReferencedImage(path, header)
        except ImageError as error:
            self.refused.append(error)

    @property
    def first(self) -> int | None:
        """Number of the first frame; None if the file holds a single image."""
        return 1 if self._source is not None and self._source.several else None

    def holds(self, frame: int | None) -> bool:
        """Return if a result on this frame was added."""
        return any(result.frame == frame for result in self._results)

    def add(self, number: int, result: Result, pixels: Floats32) -> None:
        """Write the overlay of one image, and keep its score and anomaly map."""
        if (source := self._source) is None:
            return
        kept = {"anomaly": result.score.maps["anomaly"]}
        self._results.append(replace(result, score=replace(result.score, maps=kept, pictures=(), original=None)))
        self._write("overlay", number, lambda: overlay(source, result, pixels, self.model))

    def close(self) -> None:
        """Write map and report of all that was added."""
        if (source := self._source) is not None and self._results:
            results, model = self._results, self.model
            self._write("map", self.number, lambda: parametric_map(source, results, model))
            self._write("report", self.number, lambda: report(source, results, self._made, model))

    def _write(self, kind: str, number: int, make: Callable[[], Dataset]) -> None:
        file = self.out / file_name(number, f"_{kind}.dcm")
        made = write_object(file, kind, make, self.path)
        if isinstance(made, ImageError):
            self.refused.append(made)
        else:
            self.written.append(file)
            self._made.append(made)


def write_object(file: Path, kind: str, make: Callable[[], Dataset], of: Path) -> Dataset | ImageError:
    """Write one object on the image ``of``; return its keys, or why it cannot be made. OSError is the disk's."""
    try:
        made = make()
        content = _encoded(made)
    except ImageError as error:
        return error
    except HEADER_FAULTS as error:
        found = f"no {kind} can be made from its header ({type(error).__name__})"
        refusal = ImageError(of, found, REMEDY_EXPORT_FROM_ARCHIVE)
        refusal.__cause__ = error  # for a debugger: what it says may hold values of the header, and is not printed
        return refusal
    write_bytes(file, content, sync_name=False)
    evidence = Dataset()
    for keyword in KEYS:
        setattr(evidence, keyword, made[keyword].value)
    return evidence


def _encoded(made: Dataset) -> memoryview:
    """Return an object as the bytes of its file; ValueError for a value that cannot be written."""
    content = BytesIO()
    try:
        made.save_as(content, enforce_file_format=True)
    except OSError as error:  # no disk is touched: so pydicom raises whatever a number meets that does not fit
        raise ValueError("a value does not fit its element") from error
    return content.getbuffer()


ENDING = r"_(?:map|overlay|report)\.dcm"


class DicomFolder(Sink):
    """Folder of DICOM results, written row by row; ``refused`` and ``not_dicom`` say which images have none."""

    needs_maps = True
    needs_original = True

    def __init__(self, folder: Path, model: ModelIdentity, overwrite: bool = False) -> None:
        self.folder, self.model, self.overwrite = folder, model, overwrite
        self.refused: list[tuple[Record, ImageError]] = []
        self.not_dicom = 0
        self._open: tuple[Record, FileResults] | None = None
        self._held = ExitStack()

    def check(self) -> None:
        former(self.folder, ENDING, self.inputs, self.overwrite)

    def __enter__(self) -> Self:
        self._staged = self._held.enter_context(numbered(self.folder, ENDING, self.inputs, self.overwrite))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._held.__exit__(kind, error, trace)
            return
        with self._held:
            self.close()

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        """Take the score, with its maps and original, of a row; the rows of one file must follow one another."""
        if isinstance(result, ImageError):
            return
        original = result.original
        if original is None or original.header is None:
            self.not_dicom += 1
            return
        if self._open is None or self._open[0].path != record.path or self._open[1].holds(record.slice_number):
            self.close()
            self._open = record, FileResults(record.path, original.header, self.model, self._staged, number)
        of_file = self._open[1]
        of_file.add(number, Result(result, record.slice_number or of_file.first, result.outside), original.pixels)

    def close(self) -> None:
        """Write map and report of the file that is still open."""
        if self._open is not None:
            record, of_file = self._open
            of_file.close()
            self.refused += [(record, error) for error in of_file.refused]
            self._open = None
