"""DICOM results on one study: an overlay of each image that is shown, maps on request, and one report on all."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from pydicom.dataset import Dataset

from aeflow.data.records import Record
from aeflow.imageio.errors import EmptyImageError, ImageError
from aeflow.results.dicom.identifiers import ModelIdentity, Result
from aeflow.results.dicom.overlay import overlay
from aeflow.results.dicom.parametric_map import parametric_map
from aeflow.results.dicom.referenced_image import ReferencedImage
from aeflow.results.dicom.structured_report import study_report
from aeflow.results.dicom.writer import write_object
from aeflow.runtime.files import digest
from aeflow.scoring.score_files import Sink
from aeflow.scoring.scorer import Score
from aeflow.scoring.studies import Studies

# Images of a study that its report names, those with the highest scores: a report on thousands opens in no viewer, and
# a picture of each would double what an archive holds.
MAX_SHOWN = 32


@dataclass(frozen=True, slots=True)
class Made:
    """One object that was written."""

    kind: str  # report, overlay or map
    file: Path
    keys: Dataset  # UIDs of study, series, instance and class


@dataclass(order=True, frozen=True, slots=True)
class _Shown:
    """One image that the report names, with its overlay."""

    value: float
    number: int
    source: ReferencedImage | None = None
    result: Result | None = None
    overlay: Made | None = None


class StudyResults(Sink):
    """Results on the images of one study; images outside the intended input have none unless ``outside`` says so.

    ``contents`` are digests of the files, which go into the UIDs: what is made again from the same images has the same
    UIDs, and what is made from others has others. ``finish`` writes the report.
    """

    needs_maps = True
    needs_original = True

    def __init__(
        self,
        folder: Path,
        model: ModelIdentity,
        kinds: Sequence[str],
        contents: Mapping[Path, str],
        false_positive_rate: float,
        outside: bool = False,
    ) -> None:
        self.folder, self.model, self.kinds, self.contents, self.outside = folder, model, kinds, contents, outside
        self.refused: list[ImageError] = []  # images that cannot be read, and objects that cannot be made
        self.scored = self.withheld = self.empty = 0
        self._maps: list[Made] = []
        self._shown: list[_Shown] = []
        self._source: ReferencedImage | None = None  # of the file that is under way
        self._of_map: list[Result] = []
        self._filed: ReferencedImage | None = None  # of the first image: patient and study of the report
        self._studies = Studies(false_positive_rate)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._close_file()

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        """Write the overlay of an image if it may be among those shown; the rows of a file follow one another."""
        if isinstance(result, ImageError):
            if isinstance(result, EmptyImageError):
                self.empty += 1
                return
            self.refused.append(result)
            self._studies.add(number, replace(record, study="study"), result)
            return
        self.scored += 1
        if result.outside and not self.outside:
            self.withheld += 1
            return
        assert result.original is not None, "it was asked for"
        source = self._source_of(record, result.original.header)
        if source is None:
            return
        self._studies.add(number, replace(record, study="study"), result)
        frame = record.slice_number or (1 if source.several else None)
        light = replace(result, maps={"anomaly": result.maps["anomaly"]}, pictures=(), original=None, image=None)
        of_image = Result(light, frame, result.outside)
        if "map" in self.kinds:
            self._of_map.append(of_image)
        if len(self._shown) == MAX_SHOWN and result.value <= self._shown[0].value:
            return
        made = None
        if "overlay" in self.kinds:
            pixels = result.original.pixels
            made = self._write("overlay", number, source, lambda: overlay(source, of_image, pixels, self.model))
        bare = Result(replace(light, maps={}, region=None), frame, result.outside)
        heapq.heappush(self._shown, _Shown(result.value, number, source.light(), bare, made))
        if len(self._shown) > MAX_SHOWN and (gone := heapq.heappop(self._shown).overlay) is not None:
            gone.file.unlink()

    def finish(self, replaced: Sequence[Dataset] = ()) -> list[Made]:
        """Write the report, which replaces former ones, and return all objects in the order to send them."""
        shown = sorted(self._shown, key=lambda one: one.number)
        made = [*self._maps, *(one.overlay for one in shown if one.overlay is not None)]
        if (filed := self._filed) is None or "report" not in self.kinds:
            return made
        study = next(iter(self._studies.results()), None)
        images = [(one.source, one.result) for one in shown if one.source is not None and one.result is not None]
        content = digest([sorted(self.contents.values()), [one.SOPInstanceUID for one in replaced]])
        keys = [one.keys for one in made]
        report = self._write(
            "report",
            0,
            filed,
            lambda: study_report(filed, images, study, keys, self.model, content, replaced),
        )
        return made if report is None else [*made, report]

    def _source_of(self, record: Record, header: Dataset | ImageError | None) -> ReferencedImage | None:
        """Return the image that results refer to; None, and a refusal, if none can."""
        if self._source is not None and self._source.path == record.path:
            return self._source
        self._close_file()
        assert header is not None, "only DICOM is received"
        try:
            self._source = ReferencedImage(record.path, header, self.contents[record.path])
        except ImageError as error:
            self.refused.append(error)
            return None
        self._filed = self._filed or self._source
        return self._source

    def _close_file(self) -> None:
        """Write the map of the file that is under way."""
        source, results = self._source, self._of_map
        self._source, self._of_map = None, []
        if source is not None and results:
            number = len(self._maps) + 1
            made = self._write("map", number, source, lambda: parametric_map(source, results, self.model))
            if made is not None:
                self._maps.append(made)

    def _write(self, kind: str, number: int, source: ReferencedImage, make: Callable[[], Dataset]) -> Made | None:
        """Write one object; None, and a refusal, if it cannot be made."""
        file = self.folder / f"{number:05d}_{kind}.dcm"
        keys = write_object(file, kind, make, source.path)
        if isinstance(keys, ImageError):
            self.refused.append(keys)
            return None
        return Made(kind, file, keys)
