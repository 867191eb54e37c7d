"""Training of one model by 1, 2 and 4 processes on one machine: what stays equal, and where the time goes.

    python -m benchmarks.speed.several_processes [--data sample] [--work DIR] [--out benchmarks/results]

Each number of processes trains from an empty cache as ``torchrun --nproc-per-node N -m aeflow train`` does, with one
thread a process; the test split is scored by each model, by torch. All are compared with the one process that torchrun
starts; the row of 1 is ``aeflow train`` without it, in bfloat16 where the processor has it, and without lanes.
"""

from __future__ import annotations

import argparse
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
AEFLOW = ("-m", "aeflow")
PHASES = ("features", "terms", "decoder", "training", "calibration")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and score with each number of processes, and write how far the models are from torchrun's of one."""
    parser = Parser("speed.several_processes", __doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.share("--data", default=ROOT / "sample")
    parser.share("--set", "--work", "--out")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        first = trained([*LAUNCHER, "1", *AEFLOW], options, Path(folder, "first"))
        for number in options.processes:
            launcher = [sys.executable] if number == 1 else [*LAUNCHER, str(number)]
            found = trained([*launcher, *AEFLOW], options, Path(folder, str(number)))
            rows.append({"processes": number, "seconds": found["seconds"], **apart(first, found)})
            print(json.dumps(rows[-1]), flush=True)
    result = {"rows": rows, "test_images": len(first["scores"]), "epochs": len(first["losses"]), "machine": machine()}
    write_results(options.out / "several_processes.json", result)


def trained(launcher: Sequence[str], options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Return losses, threshold, scores, verdicts and seconds of the model that a launcher of aeflow trains."""
    run, table = work / "run", work / "scores.csv"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "AEFLOW_CACHE": str(work / "cache")}
    settings = [part for change in options.changes for part in ("--set", change)]
    train = ["train", options.data, "--out", run, "--device", "cpu", "--no-graph", *settings]
    score = ["score", run, options.data / "test", "--out", table, "--backend", "torch"]
    for command in ([*launcher, *train], [sys.executable, *AEFLOW, *score]):
        subprocess.run([*map(str, command)], env=environment, check=True, stdout=subprocess.DEVNULL)
    facts = json.loads((run / "model.json").read_text())
    with (run / "history.csv").open() as file:
        losses = [float(row["held_out_loss"]) for row in csv.DictReader(file)]
    with table.open() as file:
        rows = list(csv.DictReader(file))
    return {
        "losses": losses,
        "threshold": facts["calibration"]["threshold"],
        "log_det_weight": facts["settings"]["log_det_weight"],
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
        "median_score": float(np.median(np.abs(np.subtract(one["scores"], other["scores"])))),
        "log_det_weight": abs((one["log_det_weight"] or 0) - (other["log_det_weight"] or 0)),
        "verdicts": sum(a != b for a, b in zip(one["verdicts"], other["verdicts"], strict=True)),
    }


if __name__ == "__main__":
    main()
