"""Memory of the driver of an archive alone: an engine that scores nothing gives it its rows.

    python -m benchmarks.speed.scale_driver ROWS FOLDER

A table lists as many paths, each gets a made-up row in this very process, and all that a driver does is done: plan,
parts, counts and studies. Prints seconds and peak memory as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from aeflow.archive.engines import ENGINES
from aeflow.archive.engines.base import Engine, Opens
from aeflow.archive.part_scorer import OF_FILE, ModelFacts
from aeflow.archive.plan import Part
from aeflow.archive.score_archive import Request, score_archive
from aeflow.results.score_table import arrow_table, columns
from aeflow.runtime.machine import own_peak_mb

SLICES = 100  # of a study


class RowsAlone(Engine):
    """Engine that makes up rows."""

    def __init__(self, workers: int | None, address: str | None) -> None:
        """Need nothing."""

    def facts(self, opening: Opens) -> Any:
        """Return facts of no model."""
        return ModelFacts("0" * 64, "none", "0", 1.0, "made up", 0.05)

    def tables(self, opening: Opens, parts: Iterable[Part]) -> Iterator[tuple[int, pa.Table]]:
        """Yield rows that are as long as real ones."""
        names = columns() | OF_FILE
        for part in parts:
            rows = []
            for number, item in enumerate(part.items):
                row = dict.fromkeys(names) | {"path": item.name, "patient": f"{part.number:012}", "revision": 1}
                row |= {"score": number / 7, "p_value": 0.5, "verdict": "normal", "threshold": 1.0, "outside": ""}
                row |= {"sha256": f"{number:064}", "bytes": 10_000, "version": str(number)}
                rows.append(row | {"study": f"{part.number}-{number // SLICES}"})
            yield part.number, arrow_table(rows, names)


def main(rows: int, folder: Path) -> None:
    """Write the table, make the archive, and print what it took."""
    folder.mkdir(parents=True)
    listed = folder / "list.csv"
    with listed.open("w") as file:
        file.write("path\n")
        file.writelines(f"/nowhere/archive/{number // 1000:06}/{number:09}.dcm\n" for number in range(rows))
    ENGINES["rows alone"] = RowsAlone
    started = time.perf_counter()
    score_archive(Request(run=folder, sources=[str(listed)], engine="rows alone"), folder / "archive")
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": round(seconds, 1), "driver_mb": round(own_peak_mb())}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
