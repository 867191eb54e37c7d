"""Folder of pictures, one for each scored image: the image, its reconstruction and its maps."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from aeflow.data.records import Record
from aeflow.imageio.errors import ImageError
from aeflow.results.numbered import numbered
from aeflow.scoring.score_files import Sink
from aeflow.scoring.scorer import Score, Scorer


class PictureFolder(Sink):
    """Pictures ``00001.png`` and so on, numbered as the rows of the table; refused images leave a gap."""

    needs_maps = True
    needs_pictures = True

    def __init__(self, folder: Path, scorer: Scorer) -> None:
        self.folder = folder
        self._scales, self._size = scorer.calibration.map_limits, scorer.settings.image_size
        self._open = ExitStack()

    def __enter__(self) -> Self:
        from aeflow.reporting.score_picture import pictures  # matplotlib takes half a second to import

        with ExitStack() as stack:
            stack.enter_context(numbered(self.folder, r"\.png", self.inputs))
            self._draw = stack.enter_context(pictures(self._scales, self._size))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        if isinstance(result, Score):
            self._draw(result, self.folder / f"{number:05d}.png")
