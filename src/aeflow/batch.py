"""Many images -> a table, and a picture of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from aeflow import tables
from aeflow.artifact import Artifact
from aeflow.data.records import Record, find_images
from aeflow.errors import ImageError
from aeflow.evaluation.gallery import gallery
from aeflow.evaluation.panels import panel
from aeflow.evaluation.style import save_png
from aeflow.progress import bar
from aeflow.score import score


@dataclass(frozen=True, slots=True)
class Batch:
    """What came of many images."""

    verdicts: Counter[str]  # how many got each
    outside: Counter[tuple[str, ...]]  # how many are outside the intended input for the same reasons
    refusals: list[tuple[Record, ImageError]]


def score_paths(
    artifact: Artifact,
    paths: Sequence[Path],
    *,
    out: Path | None = None,
    maps: Path | None = None,
    show: Callable[[tables.Row], None] = lambda row: None,
) -> Batch:
    """Score files and folders in input order and constant memory.

    ``out`` is a table, ``maps`` a folder that gets ``00001.png`` and so on, numbered as the table's rows; ``show`` is
    handed each row as it comes.
    """
    records = find_images(paths)
    done = Batch(Counter(normal=0, abnormal=0), Counter(), [])
    with ExitStack() as stack:
        writers = [show] + ([stack.enter_context(tables.writer(out))] if out else [])
        advance = stack.enter_context(bar("Scoring", len(records)))
        if maps:
            maps.mkdir(parents=True, exist_ok=True)
        results = score(artifact, records, maps=maps is not None, pictures=maps is not None)
        for number, (record, result) in enumerate(results, 1):
            for write in writers:
                write(tables.row(record, result))
            advance()
            if isinstance(result, ImageError):
                done.refusals.append((record, result))
                continue
            done.verdicts[result.verdict] += 1
            if result.outside:
                done.outside[result.outside] += 1
            if maps:
                save_png(gallery([panel(result)], artifact.calibration.scales), maps / f"{number:05d}.png")
    return done
