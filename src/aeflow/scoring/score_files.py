"""Loop that scores many image files and hands each result to sinks: a table, pictures, DICOM objects, lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aeflow.data.load_files import load_files
from aeflow.data.records import Record
from aeflow.data.slices import refusals_among
from aeflow.imageio.errors import ImageError
from aeflow.runtime.inputs import Inputs
from aeflow.runtime.progress import bar
from aeflow.scoring.scorer import Score, Scorer, score_images
from aeflow.scoring.studies import Studies, Study

AHEAD, FEW_AHEAD = 16, 4  # decoded images that wait; at their own size, some hold 50 MB each


class Sink(AbstractContextManager["Sink"], ABC):
    """Base of the receivers of results, one by one in input order; a context, since it may hold files open."""

    needs_maps = False
    needs_pictures = False  # the image as the network saw it, and its reconstruction
    needs_original = False  # the image at its own size
    inputs = Inputs()  # files that nothing may be written over; ``score_files`` sets it

    def check(self) -> None:
        """Raise OutputError if something is in the way, before anything is scored."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was taken; with an error, only close what is open."""

    @abstractmethod
    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        """Take the result of image ``number``, counted from 1: the row of a table."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts, refusals and studies of many scored images."""

    verdicts: Counter[str] = field(default_factory=lambda: Counter(normal=0, abnormal=0))
    outside: Counter[tuple[str, ...]] = field(default_factory=Counter)  # images outside the intended input, by reasons
    outside_called: Counter[str] = field(default_factory=Counter)  # the same by verdict
    refusals: list[tuple[Record, ImageError]] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)


def score_files(scorer: Scorer, files: Sequence[Record], sinks: Sequence[Sink] = (), after: int = 0) -> Summary:
    """Score all images of files in input order and constant memory, and the studies that slices belong to.

    Each result goes to every sink, which are checked, entered and left here, and replace none of the files. A file of
    one image is opened and decoded once. The first files are passed over, if they were scored before (``after``).
    """
    done, studies = Summary(), Studies(scorer.calibration.rate)
    inputs = Inputs(record.path for record in files)
    maps, pictures, original = (
        any(getattr(sink, need) for sink in sinks) for need in ("needs_maps", "needs_pictures", "needs_original")
    )
    for sink in sinks:
        sink.inputs = inputs
        sink.check()
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink)
        advance = stack.enter_context(bar("Scoring", len(files) - after))
        images = load_files(
            files[after:],
            scorer.backend.size,
            scorer.settings.slice_axis,
            known={record.path for record in files},
            ahead=FEW_AHEAD if original else AHEAD,
            original=original,
            more=advance.more,
            listed=inputs.add,
        )
        scored = score_images(scorer, images, maps=maps, pictures=pictures)
        for number, (record, result) in enumerate(scored, 1):
            for sink in sinks:
                sink.add(number, record, result)
            studies.add(number, record, result)
            advance()
            if isinstance(result, ImageError):
                done.refusals.extend(refusals_among([(record, result)]))
                continue
            done.verdicts[result.verdict] += 1
            if result.outside:
                done.outside[result.outside] += 1
                done.outside_called[result.verdict] += 1
    done.studies.extend(studies.results())
    return done
