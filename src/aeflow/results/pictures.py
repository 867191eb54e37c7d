"""Folder of pictures of scored images: each with its reconstruction and maps, or at its own size under its map."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from aeflow.data.records import Record
from aeflow.errors import printable
from aeflow.imageio.errors import ImageError
from aeflow.privacy import shown_key
from aeflow.reporting.overlay import blend, with_strip
from aeflow.reporting.panels import panel_title
from aeflow.reporting.score_picture import Frame, written
from aeflow.results.numbered import file_name, former, numbered
from aeflow.scoring.score_files import Sink
from aeflow.scoring.scorer import Score, Scorer

ENDING = r"(?:_overlay)?\.png"
FEW_WAITING = 2  # overlays that are drawn or wait for it; one of a large image takes a hundred megabytes
MOST_LETTERS = 40  # of a file's name in a picture, the last ones


def picture_name(number: int) -> str:
    """Return the name of the picture of row ``number``, from 1."""
    return file_name(number, ".png")


class PictureFolder(Sink):
    """Pictures ``00001.png`` and so on, numbered as the rows of the table; refused images leave a gap.

    With ``overlay`` there is also ``00001_overlay.png``, the image at its own size under its anomaly map. Each says
    which row it is of, under a pseudonym.
    """

    needs_maps = True
    needs_pictures = True

    def __init__(self, folder: Path, scorer: Scorer, overlay: bool = False, overwrite: bool = False) -> None:
        self.folder, self.needs_original, self.overwrite = folder, overlay, overwrite
        self._scales, self._size = scorer.calibration.map_limits, scorer.settings.image_size
        self._open = ExitStack()

    def check(self) -> None:
        former(self.folder, ENDING, self.inputs, self.overwrite)

    def __enter__(self) -> Self:
        self._frame = Frame(self._scales, self._size)
        with ExitStack() as stack:
            self._staged = stack.enter_context(numbered(self.folder, ENDING, self.inputs, self.overwrite))
            self._draw = stack.enter_context(written())
            if self.needs_original:
                self._draw_large = stack.enter_context(written(FEW_WAITING))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        if isinstance(result, ImageError):
            return
        lines = caption(number, record, result)
        self._draw(self._staged / picture_name(number), lambda: np.asarray(self._frame.picture(result, lines)))
        if self.needs_original:
            place = self._staged / file_name(number, "_overlay.png")
            self._draw_large(place, partial(_overlay, result, lines, self._scales["anomaly"]))


def caption(number: int, record: Record, result: Score) -> tuple[str, str]:
    """Return the lines that say whose picture it is, and what it is for."""
    name = printable(shown_key(record.name))
    name = name if len(name) <= MOST_LETTERS else f"…{name[1 - MOST_LETTERS :]}"
    return (
        f"row {number}   ·   image {name}",
        f"threshold {result.threshold:.3g}   ·   research use, not a medical device",
    )


def _overlay(result: Score, lines: tuple[str, str], scale: tuple[float, float]) -> NDArray[np.uint8]:
    assert result.original is not None, "it was asked for"
    title = panel_title(result)
    picture = blend(result.original.pixels, result.maps["anomaly"], scale)
    return with_strip(picture, (lines[0], title, lines[1]), scale)
