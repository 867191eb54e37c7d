"""Many images -> a table, and a picture of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aeflow.data.records import Record
from aeflow.data.slices import refusals_among, unfold
from aeflow.imageio.errors import ImageError
from aeflow.results import score_table as tables
from aeflow.results.study_table import study_table_of, write_studies
from aeflow.runtime.progress import bar
from aeflow.scoring.scorer import Scorer, score
from aeflow.scoring.studies import Studies, Study

if TYPE_CHECKING:
    from aeflow.results.dicom.writer import Writer  # highdicom takes a second to import


@dataclass(frozen=True, slots=True)
class Batch:
    """What came of many images."""

    verdicts: Counter[str]  # how many got each
    outside: Counter[tuple[str, ...]]  # how many are outside the intended input for the same reasons
    refusals: list[tuple[Record, ImageError]]
    studies: list[Study]


def score_files(
    scorer: Scorer,
    files: Sequence[Record],
    *,
    out: Path | None = None,
    maps: Path | None = None,
    dicom: Writer | None = None,
    show: Callable[[tables.Row], None] = lambda row: None,
) -> Batch:
    """Score all images of files in input order and constant memory, and the studies that slices belong to.

    ``out`` is a table, beside which lies one of the studies if there are any; ``maps`` is a folder that gets
    ``00001.png`` and so on, numbered as the table's rows; ``dicom`` writes DICOM results of DICOM images; ``show`` is
    handed each row as it comes.
    """
    records = unfold(files, scorer.settings.slice_axis)
    done = Batch(Counter(normal=0, abnormal=0), Counter(), [], [])
    gathered = Studies(scorer.settings.false_positive_rate)
    with ExitStack() as stack:
        writers = [show] + ([stack.enter_context(tables.writer(out))] if out else [])
        advance = stack.enter_context(bar("Scoring", len(records)))
        if maps:
            maps.mkdir(parents=True, exist_ok=True)
            from aeflow.reporting.score_picture import pictures  # matplotlib takes half a second to import

            draw = stack.enter_context(pictures(scorer.calibration.scales, scorer.settings.image_size))
        results = score(scorer, records, maps=bool(maps or dicom), pictures=maps is not None)
        for number, (record, result) in enumerate(results, 1):
            for write in writers:
                write(tables.row(record, result))
            gathered.add(number, record, result)
            advance()
            if isinstance(result, ImageError):
                done.refusals.extend(refusals_among([(record, result)]))
                continue
            done.verdicts[result.verdict] += 1
            if result.outside:
                done.outside[result.outside] += 1
            if maps:
                draw(result, maps / f"{number:05d}.png")
            if dicom:
                dicom.add(number, record, result)
        if dicom:
            dicom.close()
            done.refusals.extend(dicom.refused)
    done.studies.extend(gathered.results())
    if done.studies and out is not None:
        write_studies(done.studies, study_table_of(out))
    return done
