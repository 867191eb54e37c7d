"""Constants of the plan that this machine can measure: the driver's time for a part, and a worker's until it is ready.

The driver's rows are made up, of the length of real ones, and made before the clock runs. Its time is that of a core,
the least of some tries, without waits for the disk: what else runs on the machine hardly changes it. A start is of
several processes, so its ratio to that of a process alone is measured, in turns; the latter benchmarks/speed has
measured on a quiet machine.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aeflow.archive.engines import ENGINES
from aeflow.archive.engines.worker import packed, unpacked
from aeflow.archive.finish import COUNTED, Counts, write_studies_of
from aeflow.archive.folder import ArchiveFolder
from aeflow.archive.item import Item
from aeflow.archive.part_scorer import Opening
from aeflow.archive.plan import Part, Plan, write_plan
from aeflow.archive.sources import way_to
from aeflow.data.records import find_images
from aeflow.results.table_rows import rows_of
from aeflow.runtime.files import file_digest
from benchmarks.common import RESULTS
from benchmarks.speed.scale_driver import RowsAlone

SIZES = (128, 512, 2048)  # images of a part
PARTS = {128: 24, 512: 12, 2048: 6}  # that are written
TRIES, TURNS = 5, 3
LISTED = 50_000


def constants(run: Path, folder: Path) -> dict[str, Any]:
    """Return what is measured here, by a trained model and a folder of images, and what was measured before."""
    images = [record.path for record in find_images([folder])]
    driver = {str(size): driver_seconds(size) for size in SIZES}
    each, row = np.polynomial.polynomial.polyfit(SIZES, list(driver.values()), 1)
    speed = json.loads((RESULTS / "speed.json").read_text())
    starts = start_seconds(run, images[0])
    return {
        "image_bytes": statistics.fmean(path.stat().st_size for path in images),
        "images_per_second_of_a_core": statistics.median(one["whole"] for one in speed["runs"]["aeflow score"])
        / speed["machine"]["cores"],
        "driver_seconds_by_part": driver,
        "driver_seconds_a_part": max(0.0, float(each)),
        "driver_seconds_a_row": float(row),
        "driver_seconds_a_listed_image": listing_seconds(),
        "starts_in_turns": starts,
        "start_seconds": statistics.median(speed["starts"]["first score"])
        * statistics.median(one["ray"] / one["local"] for one in starts),
    }


def driver_seconds(size: int) -> float:
    """Return the driver's seconds of a core for a part: files read from the plan, rows written and counted."""
    items = [Item(f"/nowhere/archive/{n // 1000:06}/{n:09}.dcm", f"/nowhere/{n:09}.dcm", bytes=1) for n in range(size)]
    [(_, table)] = RowsAlone(None, None).tables(Opening("none"), [Part(0, items)])
    sent = packed(table)
    taken = []
    with tempfile.TemporaryDirectory() as name:
        archive = ArchiveFolder(Path(name))
        write_plan(items, archive.plan(1))
        plan = Plan(archive.plan(1), file_digest(archive.plan(1)))
        for number in range(PARTS[size]):
            begun = time.process_time()
            for part in range(len(plan)):  # the plan cuts at 512 files, a part here may be longer
                plan.part(part)
            archive.write_part(1, number, unpacked(sent))
            taken.append(time.process_time() - begun)
        written = archive.parts()
        return min(taken) + least(lambda: _finish(written, archive)) / len(written)


def _finish(written: list[Path], archive: ArchiveFolder) -> None:
    counts = Counts()
    for part in written:
        counts.add(rows_of(part, COUNTED))
    write_studies_of(written, archive.path / "_studies.csv", 0.05, archive.path)


def listing_seconds() -> float:
    """Return the driver's seconds for an image to list it in a folder and to write it into a plan."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(LISTED // 1000):
            place = Path(name, "images", f"{number:04}")
            place.mkdir(parents=True)
            for image in range(1000):
                (place / f"{image:04}.dcm").touch()
        files = Path(name, "images")
        return least(lambda: write_plan(way_to(str(files)).items(str(files)), Path(name, "plan"))) / LISTED


def start_seconds(run: Path, image: Path) -> list[dict[str, float]]:
    """Return, in turns, the seconds until a worker has opened the model, and until one of Ray has scored an image."""
    opening = Opening(str(run.absolute()), backend="openvino")
    part = Part(0, [Item(str(image), str(image.absolute()))])
    with ENGINES["local"](1, None) as local, ENGINES["ray"](1, None) as ray:
        return [
            {
                "local": seconds(lambda: local.facts(opening)),
                "ray": seconds(lambda: list(ray.tables(opening, [part]))),
            }
            for _ in range(TURNS)
        ]


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return how long something takes."""
    begun = clock()
    work()
    return clock() - begun


def least(work: Callable[[], object]) -> float:
    """Return the seconds of a core that something takes in this process, the least of some tries."""
    return min(seconds(work, time.process_time) for _ in range(TRIES))
