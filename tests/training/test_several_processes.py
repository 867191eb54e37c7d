"""A training divided among processes is the training of one: losses, threshold, verdicts; and it ends as one."""

from __future__ import annotations

import csv
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aeflow.runtime.cache import entries
from aeflow.training.checkpoint import CHECKPOINT
from helpers.command import within
from helpers.data import TINY
from helpers.once import once
from helpers.ranks import MODULE, TOGETHER, ended, started, together

SMALL = ["image_size=64", "hidden=16", "flow_steps=2", "batch_size=8", "stages=3"]
Run = Callable[[int], Path]


@pytest.fixture(scope="module")
def arguments(data: Path, tiny_weights: Path) -> list[object]:
    """A training of a few seconds: four processes have shares of 2 of each batch of 8, and one of 0 of the last."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    return ["train", data, "--encoder", TINY, "--encoder-weights", tiny_weights, *settings, "--device", "cpu"]


@pytest.fixture(scope="module")
def run_of(arguments: list[object], shared: Path) -> Run:
    """A function that gives the run of so many processes, with a cache of their own."""

    def of(number: int) -> Path:
        place = shared / "several" / str(number)
        cache = str(place.with_name(f"cache {number}"))

        def make(place: Path) -> None:
            command = [*arguments, "--epochs", 3, "--no-graph", "--out", place]
            first, *others = together(number, *command, AEFLOW_CACHE=cache)
            assert f"model: {place}" in first.out
            assert [(other.out, other.err) for other in others] == [("", "")] * (number - 1)

        return once(place, make)

    return of


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def facts(run: Path) -> dict[str, Any]:
    return json.loads((run / "model.json").read_text())


def verdicts(run: Path, data: Path, out: Path) -> tuple[list[str], list[float]]:
    within("score", run, data / "test" / "normal", data / "test" / "abnormal", "--out", out, "--backend", "torch")
    with out.open() as file:
        rows = list(csv.DictReader(file))
    return [row["verdict"] for row in rows], [float(row["score"]) for row in rows]


@pytest.mark.parametrize("number", [2, 4])
def test_several_processes_train_the_same_model(run_of: Run, data: Path, tmp_path: Path, number: int) -> None:
    one, several = run_of(1), run_of(number)
    for a, b in zip(history(one), history(several), strict=True):
        assert b["held_out_loss"] == pytest.approx(a["held_out_loss"], abs=1e-4)
        assert b["train_loss"] == pytest.approx(a["train_loss"], abs=1e-4)
        assert b["best"] == a["best"]
    there, here = facts(one), facts(several)
    assert here["training"]["processes"] == number
    assert here["calibration"]["threshold"] == pytest.approx(there["calibration"]["threshold"], abs=1e-3)
    assert here["log_det_weights"].keys() == there["log_det_weights"].keys()
    (said, scores), (known, expected) = (verdicts(run, data, tmp_path / run.name) for run in (several, one))
    assert said == known
    assert scores == pytest.approx(expected, abs=1e-3)


def test_processes_fill_a_cache_together(run_of: Run, shared: Path) -> None:
    """No image is computed twice, though all write at once."""
    counted = []
    for number in (1, 2):
        run_of(number)
        [features, *_] = (one for one in entries(shared / "several" / f"cache {number}") if ", augment" in one.what)
        counted.append(features.images)
    assert counted[0] == counted[1] > 0


def checkpoint_there(run: Path, processes: list[subprocess.Popen[str]]) -> None:
    """Wait until a training has written a checkpoint."""
    deadline = time.monotonic() + TOGETHER
    while not (run / CHECKPOINT).exists():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def stopped(arguments: list[object], shared: Path, run_of: Run) -> tuple[Path, list[object]]:
    """An unfinished training of two processes that SIGTERM has ended, as torchrun sends it; and its command."""
    run_of(2)
    command = [*arguments, "--epochs", 30, "--set", "patience=30", "--no-graph"]
    run = shared / "several" / "stopped"
    with started(2, *command, "--out", run, AEFLOW_CACHE=str(shared / "several" / "cache 2")) as processes:
        checkpoint_there(run, processes)
        for process in processes:
            process.terminate()
        done = ended(processes)
    assert [one.code for one in done] == [-signal.SIGTERM] * 2
    assert not any("Traceback" in one.err for one in done)
    assert not (run / "model.json").exists()
    return run, command


@pytest.mark.parametrize("number", [1, 2])
def test_a_stopped_training_goes_on_with_any_number(
    stopped: tuple[Path, list[object]], shared: Path, tmp_path: Path, number: int
) -> None:
    """To the losses that were never interrupted, and the model of these."""
    left, command = stopped
    run = tmp_path / "run"
    run.mkdir()
    (run / CHECKPOINT).write_bytes((left / CHECKPOINT).read_bytes())
    cache = str(shared / "several" / "cache 2")
    together(number, *command, "--out", run, "--resume", AEFLOW_CACHE=cache)
    whole = once(shared / "several" / "whole", lambda place: together(1, *command, "--out", place, AEFLOW_CACHE=cache))
    losses = [[row["held_out_loss"] for row in history(place)] for place in (whole, run)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert facts(run)["calibration"]["threshold"] == pytest.approx(facts(whole)["calibration"]["threshold"], abs=1e-3)


def test_a_full_disk_ends_all_with_one_line_and_leaves_the_checkpoint(
    stopped: tuple[Path, list[object]], shared: Path, tmp_path: Path
) -> None:
    left, command = stopped
    run, kept = tmp_path / "run", (left / CHECKPOINT).read_bytes()
    run.mkdir()
    (run / CHECKPOINT).write_bytes(kept)

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2,) * 2)

    cache = str(shared / "several" / "cache 2")
    with started(2, *command, "--out", run, "--resume", before=full, AEFLOW_CACHE=cache) as processes:
        done = ended(processes)
    assert [one.code for one in done] == [2, 2]
    [line] = [line for one in done for line in one.err.splitlines() if not line.startswith("note: ")]
    assert line.startswith(f"error: {run / CHECKPOINT}")
    assert "free some space" in line
    assert (run / CHECKPOINT).read_bytes() == kept


def test_a_killed_process_ends_the_others_with_one_line(
    arguments: list[object], shared: Path, tmp_path: Path, run_of: Run
) -> None:
    run_of(2)
    command = [*arguments, "--epochs", 1000, "--set", "patience=1000", "--out", tmp_path / "run"]
    with started(2, *command, AEFLOW_CACHE=str(shared / "several" / "cache 2")) as processes:
        checkpoint_there(tmp_path / "run", processes)
        processes[1].kill()
        first, second = ended(processes)
    assert (first.code, second.code) == (2, -signal.SIGKILL)
    [line] = [line for line in first.err.splitlines() if not line.startswith("note: ")]
    assert line.startswith("error: training: another of 2 processes has ended without a word; see the system's log")
    assert (tmp_path / "run" / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (["--set", "subnet=resnet"], "error: subnet: 'resnet' normalises over a batch"),
        (["--set", "learning_rate=nonsense"], "error: learning_rate: 'nonsense' is not allowed"),
    ],
)
def test_an_error_of_all_is_said_once(arguments: list[object], tmp_path: Path, changes: list[str], found: str) -> None:
    done = together(2, *arguments, *changes, "--out", tmp_path / "run", ok=2)
    [line] = [line for one in done for line in one.err.splitlines()]
    assert line.startswith(found)
    assert not (tmp_path / "run").exists()


def test_torchrun_starts_it(run_of: Run, arguments: list[object], shared: Path, tmp_path: Path) -> None:
    run_of(2)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "aeflow"]
    assert MODULE[1:] == launcher[-2:]
    command = [*launcher, *map(str, arguments), "--epochs", "1", "--no-graph", "--out", str(tmp_path / "run")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEFLOW_CACHE", str(shared / "several" / "cache 2"))
        patch.setenv("OMP_NUM_THREADS", "1")
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOGETHER)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model: ") == 1
