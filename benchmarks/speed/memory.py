"""Memory of `aeflow score`, the whole process and its decoders, over 600, 2,400 and 10,000 images, by form of table.

    python -m benchmarks.speed.memory RUN FOLDER [--out benchmarks/results]

The command runs as its user starts it, on the images of FOLDER linked under new names as often as it takes, and writes
a table. Shared pages are counted once.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from aeflow.data.records import find_images
from aeflow.runtime.machine import machine
from benchmarks.common import write_results
from benchmarks.inputs import link_images
from benchmarks.options import Parser
from benchmarks.processes import run_process
from benchmarks.speed.runs import CLI

MARKS = (600, 2_400, 10_000)
FORMS = ("csv", "parquet")  # Arrow, which writes Parquet, takes thirty megabytes by itself


def main(arguments: Sequence[str] | None = None) -> None:
    """Score, and write the peak memory and the rate for each number of images."""
    parser = Parser("speed.memory", __doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.share("--out")
    options = parser.parse_args(arguments)
    images = [record.path for record in find_images([options.folder])]
    facts = machine()  # before the load is our own
    found: dict[str, dict[str, dict[str, float]]] = {form: {} for form in FORMS}
    for form, n in itertools.product(FORMS, MARKS):
        with tempfile.TemporaryDirectory() as folder:
            linked = link_images(Path(folder) / "images", itertools.islice(itertools.cycle(images), n))
            ran = run_process([*CLI, "score", options.run, linked, "--out", Path(folder) / f"scores.{form}"])
        row = {"peak_mb": round(ran.peak_mb, 1), "images_per_second": round(n / ran.seconds, 1)}
        found[form][str(n)] = row
        write_results(options.out / "memory.json", {**found, "machine": facts})
        print(f"{n:,} images, {form}: {json.dumps(row)}")


if __name__ == "__main__":
    main()
