"""Memory of the process and its decoders while it scores 10,000 images.

    python -m benchmarks.speed.memory RUN FOLDER [--backend openvino] [--out benchmarks/results]

The images of FOLDER are scored again and again, with maps, through the same stream that `aeflow score` uses; nothing
is cached between them.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import aeflow
from aeflow.data.records import find_images
from aeflow.runtime.machine import resident_mb
from aeflow.scoring.scorer import score
from benchmarks.common import write_results
from benchmarks.options import Parser

MARKS = (1_000, 2_500, 5_000, 7_500, 10_000)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score, and write the memory at some numbers of images."""
    parser = Parser("speed.memory", __doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.share("--out")
    options = parser.parse_args(arguments)
    model = aeflow.load(options.run, backend=options.backend)
    images = [record for record in find_images([options.folder]) if record.path.suffix in (".jpeg", ".png")]
    records = list(itertools.islice(itertools.cycle(images), MARKS[-1]))
    resident: dict[str, float] = {}
    started = time.perf_counter()
    for number, _ in enumerate(score(model.scorer, records, maps=True), 1):
        if number in MARKS:
            resident[str(number)] = round(resident_mb(os.getpid()), 1)
    backend = model.scorer.backend.name
    result = {
        "backend": backend,
        "resident_mb": resident,
        "images_per_second": round(MARKS[-1] / (time.perf_counter() - started), 1),
    }
    write_results(options.out / "memory.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
