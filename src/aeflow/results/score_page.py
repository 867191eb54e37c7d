"""Page of scores for people, ``--report``: a sorted table beside pictures, with a slider for the threshold."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from aeflow.calibration.input_guard import MEANINGS
from aeflow.data.records import Record
from aeflow.errors import DataError, OutputError, printable
from aeflow.imageio.errors import ImageError
from aeflow.privacy import shown_key
from aeflow.reporting.score_page import MARK, beginning_and_end, row
from aeflow.runtime.files import beginning, refuse_former, replacing
from aeflow.scoring.score_files import Sink
from aeflow.scoring.scorer import Score, Scorer


class ScorePage(Sink):
    """A page of all scores in one HTML file, written row by row beside its place.

    It goes from hand to hand with its pictures, so files stand in it under pseudonyms; the row leads to the table.
    """

    needs_maps = True
    needs_pictures = True

    def __init__(self, path: Path, scorer: Scorer, overwrite: bool = False) -> None:
        if path.suffix not in (".html", ".htm"):
            raise DataError(path, "the name does not say HTML", "end it in .html")
        self.path, self.overwrite = path, overwrite
        self._frame, self._scale = frame_of(scorer), scorer.calibration.map_limits["anomaly"]
        self._open = ExitStack()

    def check(self) -> None:
        self.inputs.spare(self.path)
        if (there := beginning(self.path)) and MARK not in there:
            raise OutputError(self.path, "is there already, and is no page of scores", "move it away, or name another")
        refuse_former(self.path, self.overwrite)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._file = stack.enter_context(replacing(self.path))
            self._write(self._frame[0])
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._open:
            self._write(self._frame[1])

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        found = printable(f"{result.found}; {result.remedy}") if isinstance(result, ImageError) else result
        name = f"image {printable(shown_key(record.name))}"
        self._write(row(number, name, record.slice_number, found, self._scale))

    def _write(self, text: str) -> None:
        self._file.write(text.encode())


def frame_of(scorer: Scorer) -> tuple[str, str]:
    """Return what stands before and after the rows of the page of a model's scores."""
    calibration = scorer.calibration
    threshold, rule, scores = calibration.threshold, calibration.rule, calibration.scores
    return beginning_and_end(scorer.fingerprint, threshold, rule, scores, MEANINGS)
