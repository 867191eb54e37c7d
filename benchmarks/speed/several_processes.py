"""Training of one model by 1, 2 and 4 processes on one machine: what stays equal, and where the time goes.

    python -m benchmarks.speed.several_processes [--data sample] [--work DIR] [--out benchmarks/results]

Each number of processes trains from an empty cache as ``torchrun --nproc-per-node N -m aeflow train`` does, with one
thread a process; the test split is scored by each model, by torch.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aeflow.runtime.machine import machine
from benchmarks.common import ROOT, write_results
from benchmarks.options import Parser

LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
PHASES = ("features", "terms", "decoder", "training", "calibration")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and score with each number of processes, and write how far the models are from that of one."""
    parser = Parser("speed.several_processes", __doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.share("--data", default=ROOT / "sample")
    parser.share("--set", "--work", "--out")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for number in options.processes:
            found = trained(options.data, number, Path(folder), options.changes)
            first = first or found
            rows.append({"processes": number, "seconds": found["seconds"], **apart(first, found)})
            print(json.dumps(rows[-1]), flush=True)
    result = {"rows": rows, "test_images": len(first["scores"]), "epochs": len(first["losses"]), "machine": machine()}
    write_results(options.out / "several_processes.json", result)


def trained(data: Path, number: int, work: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Return losses, threshold, scores, verdicts and seconds of the model that so many processes train."""
    run, table = work / f"run {number}", work / f"{number}.csv"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "AEFLOW_CACHE": str(work / f"cache {number}")}
    settings = [part for change in changes for part in ("--set", change)]
    train = ["-m", "aeflow", "train", data, "--out", run, "--device", "cpu", "--no-graph", *settings]
    score = [sys.executable, "-m", "aeflow", "score", run, data / "test", "--out", table, "--backend", "torch"]
    for command in ([*LAUNCHER, str(number), *train], score):
        subprocess.run([*map(str, command)], env=environment, check=True, stdout=subprocess.DEVNULL)
    facts = json.loads((run / "model.json").read_text())
    with (run / "history.csv").open() as file:
        losses = [float(row["held_out_loss"]) for row in csv.DictReader(file)]
    with table.open() as file:
        rows = list(csv.DictReader(file))
    return {
        "losses": losses,
        "threshold": facts["calibration"]["threshold"],
        "scores": [float(row["score"]) for row in rows],
        "verdicts": [row["verdict"] for row in rows],
        "seconds": {
            **{name: facts["training"].get(f"{name}_seconds") for name in PHASES},
            "whole": facts["training"]["seconds"],
        },
    }


def apart(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Return how far two models are from one another."""
    return {
        "held_out_loss": float(np.abs(np.subtract(one["losses"], other["losses"])).max()),
        "threshold": abs(one["threshold"] - other["threshold"]),
        "score": float(np.abs(np.subtract(one["scores"], other["scores"])).max()),
        "verdicts": sum(a != b for a, b in zip(one["verdicts"], other["verdicts"], strict=True)),
    }


if __name__ == "__main__":
    main()
