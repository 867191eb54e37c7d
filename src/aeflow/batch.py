"""Many images -> a table, and a picture of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from aeflow import tables
from aeflow.artifact import Artifact
from aeflow.data.records import Record, find_images
from aeflow.errors import ImageError
from aeflow.evaluation.gallery import gallery
from aeflow.evaluation.panels import panel
from aeflow.evaluation.style import save_png
from aeflow.progress import bar
from aeflow.score import score

if TYPE_CHECKING:
    from aeflow.dicom import Writer  # highdicom takes a second to import


def score_paths(
    artifact: Artifact,
    paths: Sequence[Path],
    *,
    out: Path | None = None,
    maps: Path | None = None,
    dicom: Writer | None = None,
    show: Callable[[tables.Row], None] = lambda row: None,
) -> tuple[Counter[str], list[tuple[Record, ImageError]]]:
    """Score files and folders in input order and constant memory; returns how many got each verdict, and the refusals.

    ``out`` is a table, ``maps`` a folder that gets ``00001.png`` and so on, numbered as the table's rows; ``dicom``
    writes DICOM results of DICOM images; ``show`` is handed each row as it comes.
    """
    records = find_images(paths)
    counts: Counter[str] = Counter(normal=0, abnormal=0)
    refusals: list[tuple[Record, ImageError]] = []
    with ExitStack() as stack:
        writers = [show] + ([stack.enter_context(tables.writer(out))] if out else [])
        advance = stack.enter_context(bar("Scoring", len(records)))
        if maps:
            maps.mkdir(parents=True, exist_ok=True)
        results = score(artifact, records, maps=bool(maps or dicom), pictures=maps is not None)
        for number, (record, result) in enumerate(results, 1):
            for write in writers:
                write(tables.row(record, result))
            advance()
            if isinstance(result, ImageError):
                refusals.append((record, result))
                continue
            counts[result.verdict] += 1
            if maps:
                save_png(gallery([panel(result)], artifact.calibration.scales), maps / f"{number:05d}.png")
            if dicom:
                dicom.add(number, record, result)
        if dicom:
            dicom.close()
            refusals += dicom.refused
    return counts, refusals
