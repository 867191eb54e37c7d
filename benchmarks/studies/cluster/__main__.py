"""Simulated cluster beside the formulas of the plan for 100 million images.

    python -m benchmarks.studies.cluster [--run RUN --data FOLDER] [--page docs/scale.md]

RUN is a trained model, FOLDER holds `chest_xray_224`: the constants of driver and workers are measured with them;
without them they stay those of the results. The images/s of a core are those of benchmarks/results/speed.json, and
what is said of the store and of disturbances is assumed (``scenarios.py``). Writes benchmarks/results/cluster.json, and
the table into the page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from aeflow.runtime.files import write_text
from aeflow.runtime.machine import machine
from aeflow.runtime.process import prepare
from benchmarks.common import CHEST, with_table, write_results
from benchmarks.options import Parser
from benchmarks.studies.cluster.constants import constants
from benchmarks.studies.cluster.scenarios import study
from benchmarks.studies.cluster.table import table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the constants, simulate, and write the results."""
    parser = Parser("studies.cluster", __doc__)
    parser.share("--run", "--data", "--out", "--page")
    options = parser.parse_args(arguments)
    prepare()
    place = options.out / "cluster.json"
    if options.run:
        measured = {
            "machine": machine(),
            "constants": constants(options.run, options.data / CHEST / "train" / "normal"),
        }
    else:
        measured = json.loads(place.read_text())
    results = {"machine": measured["machine"], **study(measured["constants"])}
    write_results(place, results)
    print(table(results))
    if options.page:
        write_text(options.page, with_table(options.page.read_text(), "cluster", table(results)))


if __name__ == "__main__":
    main()
