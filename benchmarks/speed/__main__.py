"""Speed of scoring and training, beside anomalib on the same images, encoder and weights; each floor as a row.

    python -m benchmarks.speed --data DATA --run RUN --anomalib-python ENV/bin/python [--out benchmarks/results]

How to make ENV: see ``anomalib_models.py``; without it the rows that compare stay empty, and say so. DATA is a data
folder with train normals and a test split; RUN a model of the preset default, best trained on it.

Every program runs as its user starts it: a fresh process, with nothing set in the environment that concerns threads or
memory; whatever of that this shell has set is taken out. Programs take turns, and medians count. Images a second are
over the whole process, from its start to its table, and again over the scoring alone. Memory is the sum over the
process and all below it, shared pages counted once, four times a second.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from aeflow.runtime.machine import machine
from benchmarks.common import DOCS, with_table, write_results
from benchmarks.options import Parser
from benchmarks.processes import run_process
from benchmarks.speed.runs import CLI, Speed
from benchmarks.speed.table import as_table, floors_table

# A graph is at hand, as `aeflow train` leaves one: the run may have been trained without.
READY = """
import sys
from pathlib import Path
from aeflow.deploy.open_model import GRAPH_FROM_IMAGES, open_model
open_model(Path(sys.argv[1]), images=GRAPH_FROM_IMAGES)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything, and write the results and the page's table."""
    parser = Parser("speed", __doc__)
    parser.share("--data", "--run", required=True)
    parser.share("--anomalib-python", "--out")
    parser.share("--page", default=DOCS / "performance.md")
    parser.add_argument("--images", type=int, default=320, help="test images to score")
    parser.add_argument("--drawn", type=int, default=64, help="test images of which pictures are written")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the training; 0 leaves it out")
    parser.add_argument("--train-images", type=int, default=160, help="images of the peer's epochs")
    parser.add_argument("--maps", type=int, default=1000, help="maps of the pixel metrics")
    options = parser.parse_args(arguments)
    facts = machine()  # before the load is our own
    if options.anomalib_python is None:
        print("anomalib is not compared: no --anomalib-python", file=sys.stderr)
    tic = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        speed = Speed(options, Path(folder))
        run_process([sys.executable, "-c", READY, options.run])
        starts = speed.starts()
        speed.score(median(starts["first score"]))
        bench = json.loads(run_process([*CLI, "bench", options.run, "--images", speed.images, "--json"]).output)
        pixel = run_process(
            [sys.executable, "-m", "benchmarks.speed.pixel_metrics", "--maps", options.maps, "--out", folder]
        ).output
        training = speed.train(options.train_images) if options.epochs else None
        result = {
            "images": len(os.listdir(speed.images)),
            "drawn": len(os.listdir(speed.few)),
            "runs": speed.runs,
            "medians": speed.medians(),
            "ratios": speed.ratios(),
            "starts": starts,
            "training": training,
            "bench": bench,
            "pixel": json.loads(pixel),
            "seconds": time.perf_counter() - tic,
            "machine": facts,
        }
    result = _rounded(result)
    write_results(options.out / "speed.json", result)
    (options.out / "speed.md").write_text(as_table(result))
    options.page.write_text(with_table(options.page.read_text(), "speed", floors_table(result)))
    print(as_table(result))


def _rounded(value: Any) -> Any:
    """Return nested results with four digits of each number."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
