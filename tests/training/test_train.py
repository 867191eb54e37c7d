"""Training: repeatable, resumable, guarded; nothing is decided on abnormal images."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from aeflow.artifacts.run import load_run
from aeflow.config import make_settings
from aeflow.data.records import read_records
from aeflow.errors import ArtifactError, DataError, NumericalError
from aeflow.features.arithmetic import Arithmetic
from aeflow.features.cache import FeatureCache
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import EMBEDDED, pretrained
from aeflow.model.front import Front
from aeflow.training import checkpoint
from aeflow.training import train as training
from aeflow.training.loop import learning_rate
from aeflow.training.train import Trained
from helpers.command import within
from helpers.data import small_settings, write_data


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def assert_same_bits(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_it_is_said_that_a_model_of_normals_alone_leaves_the_labelled_ones_aside(trained, taught) -> None:
    of_all = "with --classifier mixture it does (--labels N: from N of them)"
    assert trained.notes[-1] == f"the model does not learn from 6 abnormal train images: {of_all}"
    assert not any("does not learn from" in note for note in taught[1].notes)


def test_run_folder_holds_what_it_should(trained: Trained, run: Path) -> None:
    assert {path.name for path in run.iterdir()} >= {"model.safetensors", "model.json", "history.csv"}
    assert not (run / checkpoint.CHECKPOINT).exists()
    assert not list(run.glob("*.part"))
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert sum(int(row["best"]) for row in rows) == 1
    best = min(rows, key=lambda row: float(row["held_out_loss"]))
    assert best["best"] == "1"
    facts = trained.artifact.metadata["training"]
    assert facts["normal_images"] + facts["held_out_images"] == 40
    assert facts["patients"] + facts["held_out_patients"] == 20  # two images each, none on both sides


def test_same_seed_same_bits_and_other_settings_others(data: Path, run: Path, trained: Trained, tmp_path: Path) -> None:
    training.train(data, tmp_path / "again", small_settings(), device="cpu")
    assert_same_bits(run, tmp_path / "again")
    for name, other in (("seed", {"seed": 1}), ("views", {"view_reach": 1.0})):
        training.train(data, tmp_path / name, small_settings(**other), device="cpu")
        here, there = weights(run), weights(tmp_path / name)
        learnt = [key for key in here if key.startswith("flows.") and key.endswith("weight")]
        assert learnt
        assert not any(torch.equal(here[key], there[key]) for key in learnt)


@pytest.mark.parametrize("cached", [0, 3])
def test_cache_changes_no_bit(
    data: Path, run: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: int
) -> None:
    """Whether it is empty, filled in part, by one image here and three there, or whole, as for the first run."""
    monkeypatch.setenv("AEFLOW_CACHE", str(tmp_path / "fresh cache"))
    if cached:
        settings = trained.artifact.settings
        encoder = pretrained(settings.encoder, settings.encoder_stages)
        cache = FeatureCache.of(Front(encoder, trained.artifact.net.region, settings), settings)
        cache.features(read_records(data, "train")[:1])
        cache.features(read_records(data, "train")[10 : 10 + cached], view=1)
    training.train(data, tmp_path / "cold", small_settings(), device="cpu")
    assert_same_bits(run, tmp_path / "cold")


def test_a_resumed_training_has_the_same_arithmetic(tmp_path: Path) -> None:
    """Other threads, another processor or library give other last bits: they are named."""
    now = Arithmetic.of(torch.device("cpu"))
    state, optimizer = {"a": torch.zeros(2)}, torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    for name, value in (("threads", 99), ("processor", "another"), ("features", "openvino 1.0")):
        then = replace(now, **{name: value})
        checkpoint.save_checkpoint(
            tmp_path, {"arithmetic": then.to_json()}, checkpoint.Progress(), state, state, optimizer
        )
        checkpoint.check_checkpoint(tmp_path, {"arithmetic": then.to_json()})
        found = f"belongs to a training with other arithmetic: {name} {value}, now {getattr(now, name)}; resume with"
        with pytest.raises(ArtifactError, match=re.escape(found)):
            checkpoint.check_checkpoint(tmp_path, {"arithmetic": now.to_json()})


def test_another_number_of_processes_may_go_on_with_other_threads(tmp_path: Path) -> None:
    """But not on another processor."""
    now = Arithmetic.of(torch.device("cpu")).to_json()
    state, optimizer = {"a": torch.zeros(2)}, torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    task = {"processes": 2, "arithmetic": {**now, "threads": 99, "cores": 98}}
    checkpoint.save_checkpoint(tmp_path, task, checkpoint.Progress(epoch=3), state, state, optimizer)
    checkpoint.check_checkpoint(tmp_path, {"processes": 1, "arithmetic": now})
    for other in ({"processes": 2, "arithmetic": now}, {"processes": 1, "arithmetic": {**now, "processor": "another"}}):
        with pytest.raises(ArtifactError, match=r"belongs to a training with other arithmetic: (threads|processor) "):
            checkpoint.check_checkpoint(tmp_path, other)


def test_the_model_says_what_computed_it(run: Path, trained: Trained) -> None:
    found = json.loads((run / "model.json").read_text())["arithmetic"]
    assert found == Arithmetic.of(torch.device("cpu")).to_json()


def test_abnormal_images_change_no_bit(run: Path, trained: Trained, tmp_path: Path) -> None:
    """They are watched during training; the model is the same without them."""
    data = write_data(tmp_path / "data")
    shutil.rmtree(data / "train" / "abnormal")
    lines = (data / "manifest.csv").read_text().splitlines()
    (data / "manifest.csv").write_text("\n".join(line for line in lines if "train/abnormal" not in line))
    training.train(data, tmp_path / "without", small_settings(), device="cpu")
    assert_same_bits(run, tmp_path / "without")


def test_resume_after_a_kill_gives_the_same_bits(data: Path, tmp_path: Path) -> None:
    """A real process, killed without warning once it has written a checkpoint."""
    arguments = ["train", str(data), "--set", "image_size=64", "--set", "hidden=16", "--set", "flow_steps=2"]
    arguments += ["--set", "batch_size=8", "--epochs", "12", "--set", "patience=12", "--device", "cpu", "--no-graph"]
    within(*arguments, "--out", tmp_path / "whole")
    command = [sys.executable, "-c", "from aeflow.cli import main; main()", *arguments, "--out", tmp_path / "killed"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "killed" / checkpoint.CHECKPOINT).exists():
                assert time.monotonic() < deadline
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / "model.json").exists()
    _, again = within(*arguments, "--out", tmp_path / "killed", ok=2)
    assert "unfinished training; go on with --resume" in again
    within(*arguments, "--out", tmp_path / "killed", "--resume")
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")
    first, second = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("whole", "killed"))
    assert first["calibration"] == second["calibration"]


def test_resume_refuses_other_settings_and_damage(data: Path, tmp_path: Path) -> None:
    settings = small_settings(epochs=2)
    normals = read_records(data, "train")[:10]
    net = AEFlow(settings, pretrained(EMBEDDED, settings.encoder_stages))
    optimizer = torch.optim.Adam(net.decoder.parameters())
    state = {"a": torch.zeros(2)}
    checkpoint.save_checkpoint(tmp_path, {"settings": {"seed": 1}}, checkpoint.Progress(), state, state, optimizer)
    with pytest.raises(ArtifactError, match="belongs to a training with other settings"):
        training.train(data, tmp_path, settings, resume=True)
    whole = (tmp_path / checkpoint.CHECKPOINT).read_bytes()
    (tmp_path / checkpoint.CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"damaged checkpoint \(.*; train from the start with --overwrite"):
        training.train(data, tmp_path, settings, resume=True)
    with pytest.raises(ArtifactError, match="no unfinished training to resume"):
        training.train(data, tmp_path / "nowhere", settings, resume=True)
    assert normals


def test_a_finished_model_is_not_lost(data: Path, run: Path, trained: Trained) -> None:
    with pytest.raises(ArtifactError, match="already holds a model; choose another --out, or replace it"):
        training.train(data, run, small_settings())


def test_early_stopping_keeps_the_best_epoch(data: Path, tmp_path: Path) -> None:
    """With a learning rate that ruins the model, the first epochs are the best and training stops early."""
    result = training.train(
        data, tmp_path, small_settings(epochs=40, patience=2, learning_rate=0.03, schedule="constant"), device="cpu"
    )
    losses = [row["held_out_loss"] for row in result.history]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2 < 40
    artifact = load_run(tmp_path)
    assert artifact.metadata["training"]["best_epoch"] == best + 1


def test_guard_names_the_layer(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NumericalError, match=r"epoch \d+, step \d+: .*(flows|decoder)\.\S+ .*not finite; lower"):
        training.train(
            data,
            tmp_path,
            small_settings(learning_rate=1e18, schedule="constant", max_grad_norm=1e30, clamp=80),
            device="cpu",
        )


def test_paper_preset_trains_from_a_weights_file(data: Path, tmp_path: Path) -> None:
    """The published configuration end to end, on smaller images and with weights that were never trained."""
    torch.manual_seed(0)
    torch.save(timm.create_model("wide_resnet50_2").state_dict(), tmp_path / "weights.pth")
    settings = make_settings("paper", image_size=64, epochs=1)
    result = training.train(data, tmp_path / "run", settings, encoder_weights=tmp_path / "weights.pth", device="cpu")
    artifact = load_run(tmp_path / "run")  # the run holds the encoder: no weights file is needed any more
    assert artifact.net.encoder.fingerprint() == result.artifact.net.encoder.fingerprint()
    assert artifact.settings == settings


def test_learning_rate_of_one_cycle() -> None:
    settings = make_settings(learning_rate=2e-3, schedule="one-cycle")
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert int(np.argmax(rates)) in (19, 20)
    assert max(rates) == pytest.approx(2e-3)
    assert rates[0] < 2e-4
    assert rates[-1] < 2e-5
    assert learning_rate(make_settings("paper"), 7, 100) == make_settings("paper").learning_rate


@pytest.mark.parametrize("n", [0, 1, 4, 8])
def test_too_few_normals(tmp_path: Path, n: int) -> None:
    data = write_data(tmp_path / "data", train=n)
    with pytest.raises(DataError, match=r"normal images?|to hold out|cannot be split by patient"):
        training.train(data, tmp_path / "run", small_settings())


def test_copies_of_one_image_are_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    for path in (data / "train" / "normal").iterdir():
        shutil.copy(data / "train" / "normal" / "000.png", path) if path.name != "000.png" else None
    with pytest.raises(DataError, match=r"1 different readable image to train on and .*no copies of one another"):
        training.train(data, tmp_path / "run", small_settings())


def test_refused_images_are_listed_and_the_rest_is_used(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    (data / "train" / "normal" / "003.png").write_bytes(b"no image")
    (data / "train" / "normal" / "007.png").write_bytes(b"")
    result = training.train(data, tmp_path / "run", small_settings(epochs=1))
    assert sorted(record.path.name for record, _ in result.refusals) == ["003.png", "007.png"]
    facts = result.artifact.metadata["training"]
    assert facts["normal_images"] + facts["held_out_images"] == 38
