"""The benchmark of speed times what it says, and its table says what is reached."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import pytest

from aeflow.deploy.benchmark import STAGES, Bench, Spread
from aeflow.runtime.machine import machine, resident_mb
from aeflow.training.train import Trained
from benchmarks.processes import Process
from benchmarks.speed import __main__ as program
from benchmarks.speed import runs, table
from helpers.command import within

PEER = os.environ.get("AEFLOW_ANOMALIB_PYTHON")


def run_here(command: list[object], **variables: str) -> Process:
    """Run aeflow's command line in this process: without the seconds that a start takes."""
    assert command[:3] == runs.CLI
    tic = time.perf_counter()
    output, _ = within(*command[3:])
    return Process(time.perf_counter() - tic, resident_mb(os.getpid()), output)


def test_the_command_is_timed_on_the_same_images(
    tiny_run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "run_process", run_here)
    options = argparse.Namespace(run=tiny_run, data=data, anomalib_python=None, images=6, drawn=2, repeats=1, epochs=0)
    speed = runs.Speed(options, tmp_path)
    speed.command(runs.PLAIN, speed.images, 0.5, [])
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + 6
    [found] = speed.runs[runs.PLAIN]
    assert 0 < found["whole"] <= found["alone"]
    assert found["peak_mb"] > 100
    assert speed.medians()[runs.PLAIN] == found


@pytest.mark.skipif(not PEER, reason="AEFLOW_ANOMALIB_PYTHON names no Python that has anomalib")
def test_speed_runs_to_the_end_beside_anomalib(
    trained: Trained, run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes: three peers are fitted and asked."""
    monkeypatch.setattr(runs, "STARTS", 1)
    small = {"images": 6, "drawn": 2, "repeats": 1, "epochs": 1, "train-images": 16, "maps": 10}
    options = [part for name, value in small.items() for part in (f"--{name}", str(value))]
    files = ["--data", str(data), "--run", str(run), "--out", str(tmp_path)]
    program.main([*files, "--anomalib-python", str(PEER), *options])
    found = json.loads((tmp_path / "speed.json").read_text())
    assert (tmp_path / "speed.md").read_text() == table.as_table(found)
    assert all(value > 0 for value in found["ratios"].values())
    assert len(found["ratios"]) == 8


def test_a_gpu_is_read_the_way_it_ships() -> None:
    shipped = {"train_bfloat16": True, "compiler": None, "hold": True, "seconds": 100.0}
    training = [
        shipped,
        {**shipped, "hold": False, "seconds": 9.0},
        {**shipped, "compiler": "inductor", "seconds": 8.0},
    ]
    scoring = [
        {"score_bfloat16": False, "compiler": None, "images_per_second": 2500.0},
        {"score_bfloat16": False, "compiler": None, "images_per_second": 9000.0},
        {"score_bfloat16": True, "compiler": None, "images_per_second": 9900.0},
    ]
    trained, scored = table.gpu_rows({"training": training, "scoring": scoring})
    assert (trained["measured"], trained["reached"]) == (100, "floor")
    assert (scored["measured"], scored["reached"]) == (9000, "aim")
    assert all(row["measured"] is None and row["reached"] is None for row in table.gpu_rows(None))


def test_memory_is_that_of_the_most_images() -> None:
    found = {"600": {"peak_mb": 100.0}, "10000": {"peak_mb": 0.375 * 1024}}
    rows = table.memory_rows({"csv": found, "parquet": {**found, "10000": {"peak_mb": 512.0}}})
    assert [(row["measured"], row["reached"]) for row in rows] == [(0.375, "floor"), (0.5, "no")]
    assert all("10,000 images" in row["what"] for row in rows)


def test_each_floor_is_a_row_that_says_what_is_reached() -> None:
    spread = Spread(1.0, 2.0)
    stages = {batch: dict.fromkeys(STAGES, spread) for batch in ("1", "8")}
    rates = {"encoder": 90.0, "score": 60.0, "score with maps": 50.0}
    over = {"score": 0.6, "score with maps": 0.5}
    found = Bench(24, 8, "cpu", "torch fp32", stages, spread, rates, over, 900.0)
    middle = {"whole": 50.0, "alone": 80.0, "peak_mb": 1024.0}
    result = {
        "images": 4,
        "drawn": 2,
        "runs": {"aeflow, maps": [middle]},
        "medians": {"aeflow, maps": middle},
        "ratios": {"aeflow, maps / fastflow, whole": 3.5, "aeflow, maps / fastflow, alone": 2.5},
        "starts": {"help": [0.1, 0.3, 0.2], "first score": [7.0]},
        "training": None,
        "bench": json.loads(json.dumps(found.to_json())),
        "pixel": {"maps": 10, "seconds": 4.0, "peak_mb": 300},
        "seconds": 1.0,
        "machine": machine(),
    }
    page = table.as_table(result)
    assert "| images/s, maps included, over anomalib FastFlow's fastest way | 5 | 8 | 3.5 x | no |" in page
    assert "| training, 30 epochs, over FastFlow's | 6 | 20 | not measured | - |" in page
    assert "| `aeflow --help` | 0.25 | 0.2 | 0.2 s | aim |" in page
    assert "| first score of a cold process | 1.9 | 1.2 | 7 s | no |" in page
    assert "| pixel AUROC + AUPRO of 10 maps 256x256 | 10 | 3 | 4 s | floor |" in page
    assert all(f"| {stage} | " in page for stage in STAGES)
