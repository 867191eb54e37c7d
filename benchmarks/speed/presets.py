"""Seconds of `aeflow train` and `aeflow score` for the plans that people choose on chest X-rays, whole processes.

    python -m benchmarks.speed.presets --data FOLDER [--repeats 3] [--out benchmarks/results]

FOLDER holds `chest_xray_224` in aeflow's layout. Each training begins with an empty cache, and ends with its graph in
the run; each scoring writes a table of the test split. Scorings take turns, and medians count. Writes presets.json.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from aeflow.runtime.machine import machine
from benchmarks.common import CHEST, write_results
from benchmarks.options import Parser
from benchmarks.processes import run_process
from benchmarks.speed.runs import CLI

PLANS: dict[str, list[str]] = {
    "aeflow-1": ["--preset", "aeflow-1"],
    "default": [],
    "lungs, unknown": ["--region", "lungs"],
    "lungs, diffuse": ["--region", "lungs", "--looks-for", "diffuse"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train each plan once, score with all in turns, and write the seconds."""
    parser = Parser("speed.presets", __doc__)
    parser.share("--data", required=True)
    parser.share("--out")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    data, facts = options.data / CHEST, machine()  # before the load is our own
    train: dict[str, float] = {}
    score: dict[str, list[float]] = {name: [] for name in PLANS}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, words) in enumerate(PLANS.items()):
            command = [*CLI, "train", data, "--out", Path(folder) / name, *words]
            train[name] = round(run_process(command, AEFLOW_CACHE=str(Path(folder) / f"cache {number}")).seconds, 1)
        for _ in range(options.repeats):
            for name, seconds in score.items():
                table = Path(folder) / f"{name}.csv"
                command = [*CLI, "score", Path(folder) / name, data / "test", "--out", table, "--overwrite"]
                seconds.append(round(run_process(command).seconds, 2))
    middle = {name: median(seconds) for name, seconds in score.items()}
    over = {name: round(seconds / middle["aeflow-1"], 3) for name, seconds in middle.items()}
    result = {"train": train, "score": score, "over aeflow-1": over, "machine": facts}
    write_results(options.out / "presets.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
