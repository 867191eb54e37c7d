"""A training divided among processes is the training of one, to the last bit; and it ends as one."""

from __future__ import annotations

import csv
import json
import resource
import signal
import subprocess
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
from helpers.ranks import TOGETHER, Ended, ended, started, together, torchrun

SMALL = ["image_size=64", "hidden=16", "flow_steps=2", "batch_size=8", "stages=3"]
Run = Callable[[int], Path]


@pytest.fixture(scope="module")
def arguments(data: Path, tiny_weights: Path) -> list[object]:
    """A training of a few seconds: 32 images in batches of 8, whose lanes have 2 each."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    place = ["--encoder", TINY, "--encoder-weights", tiny_weights, "--device", "cpu", "--no-graph"]
    return ["train", data, *place, *settings, "--epochs", 5]


@pytest.fixture(scope="module")
def run_of(arguments: list[object], shared: Path) -> Run:
    """A function that gives the run of so many processes, with a cache of their own; torchrun starts two."""

    def make(place: Path) -> None:
        number, command = int(place.name), [*arguments, "--out", place]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AEFLOW_CACHE", str(cache_of(shared, number)))
            if number == 1:
                as_by_torchrun(patch)
                within(*command)
                return
            if number == 2:
                out = torchrun(number, *command)
            else:
                first, *others = together(number, *command)
                assert [(other.out, other.err) for other in others] == [("", "")] * (number - 1)
                out = first.out
        assert out.count(f"model: {place}") == 1

    return lambda number: once(shared / "several" / str(number), make)


def as_by_torchrun(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("WORLD_SIZE", "1")


def cache_of(shared: Path, number: int) -> Path:
    return shared / "several" / f"cache {number}"


def losses(run: Path) -> list[str]:
    with (run / "history.csv").open() as file:
        return [row["held_out_loss"] for row in csv.DictReader(file)]


def facts(run: Path) -> dict[str, Any]:
    return json.loads((run / "model.json").read_text())


def verdicts(run: Path, data: Path, out: Path) -> tuple[list[str], list[float]]:
    out = out.with_suffix(".csv")
    within("score", run, data / "test" / "normal", data / "test" / "abnormal", "--out", out, "--backend", "torch")
    with out.open() as file:
        rows = list(csv.DictReader(file))
    return [row["verdict"] for row in rows], [float(row["score"]) for row in rows]


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=pytest.mark.torture)])
def test_several_processes_train_the_same_model(run_of: Run, data: Path, tmp_path: Path, number: int) -> None:
    one, several = run_of(1), run_of(number)
    assert losses(several) == losses(one)
    there, here = facts(one), facts(several)
    assert here["training"]["processes"] == number
    assert here["calibration"] == there["calibration"]
    assert here["log_det_weights"] == there["log_det_weights"]
    assert verdicts(several, data, tmp_path / "several") == verdicts(one, data, tmp_path / "one")


def test_processes_fill_a_cache_together(run_of: Run, shared: Path) -> None:
    """No image is computed twice, though all write at once."""
    counted = []
    for number in (1, 2):
        run_of(number)
        [features, *_] = (one for one in entries(cache_of(shared, number)) if ", augment" in one.what)
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
def stopped(arguments: list[object], shared: Path, run_of: Run) -> Path:
    """An unfinished training of two processes that SIGTERM has ended, as torchrun sends it."""
    run_of(2)
    run = shared / "several" / "stopped"
    with started(2, *arguments, "--out", run, AEFLOW_CACHE=str(cache_of(shared, 2))) as processes:
        checkpoint_there(run, processes)
        for process in processes:
            process.terminate()
        done = ended(processes)
    assert [one.code for one in done] == [-signal.SIGTERM] * 2
    assert not any("Traceback" in one.err for one in done)
    assert not (run / "model.json").exists()
    return run


@pytest.fixture
def left(stopped: Path, tmp_path: Path) -> Path:
    """A copy of what it left."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CHECKPOINT).write_bytes((stopped / CHECKPOINT).read_bytes())
    return tmp_path / "run"


def test_a_stopped_training_goes_on_in_another_number_of_processes(
    left: Path, arguments: list[object], run_of: Run, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the losses and the calibration of one that was never stopped."""
    monkeypatch.setenv("AEFLOW_CACHE", str(cache_of(shared, 2)))
    as_by_torchrun(monkeypatch)
    within(*arguments, "--out", left, "--resume")
    whole = run_of(2)
    assert losses(left) == losses(whole)
    assert facts(left)["calibration"] == facts(whole)["calibration"]


def one_line(processes: list[Ended]) -> str:
    """The one error that all processes together have said; only the first has notes and counts beside it."""
    said = [line for one in processes for line in one.err.splitlines()]
    assert all(len(one.err.splitlines()) <= 1 for one in processes[1:]), processes
    assert not any("Traceback" in line for line in said)
    [line] = [line for line in said if line.startswith("error: ")]
    return line


@pytest.mark.torture
def test_a_full_disk_ends_all_with_one_line_and_leaves_the_checkpoint(
    left: Path, arguments: list[object], shared: Path
) -> None:
    kept = (left / CHECKPOINT).read_bytes()

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2,) * 2)

    command = [*arguments, "--out", left, "--resume"]
    with started(2, *command, before=full, AEFLOW_CACHE=str(cache_of(shared, 2))) as processes:
        done = ended(processes)
    assert [one.code for one in done] == [2, 2]
    assert one_line(done) == f"error: {left / CHECKPOINT}: File too large; free some space, or name another place"
    assert (left / CHECKPOINT).read_bytes() == kept


@pytest.mark.torture
def test_a_killed_process_ends_the_others_with_one_line(left: Path, arguments: list[object], shared: Path) -> None:
    kept = (left / CHECKPOINT).stat().st_ino
    command = [*arguments, "--out", left, "--resume"]
    with started(2, *command, AEFLOW_CACHE=str(cache_of(shared, 2))) as processes:
        deadline = time.monotonic() + TOGETHER
        while (left / CHECKPOINT).stat().st_ino == kept:  # both train
            assert time.monotonic() < deadline
            time.sleep(0.002)
        processes[1].kill()
        first, second = done = ended(processes)
    assert (first.code, second.code) == (2, -signal.SIGKILL)
    assert one_line(done).startswith(
        "error: training: another of 2 processes has ended without a word; see the system's"
    )
    assert (left / CHECKPOINT).exists()


@pytest.mark.torture
def test_an_error_of_all_is_said_once(arguments: list[object], tmp_path: Path) -> None:
    done = together(2, *arguments, "--set", "subnet=resnet", "--out", tmp_path / "run", ok=2)
    assert one_line(done).startswith("error: subnet: 'resnet' normalises over a batch, which torchrun divides;")
    assert not (tmp_path / "run").exists()
