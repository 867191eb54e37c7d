"""Checkpoint of an unfinished training: one safetensors file, written as a whole after an epoch.

Adam's moments, the weights and the best weights so far are tensors; the rest is JSON in the file's header. Since
shuffling and learning rate are functions of seed and epoch, nothing else is needed to continue bit for bit. Another
number of processes may continue it, too, on other cores and with other threads; the last bits may then be others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from aeflow.artifacts.layout import CHECKPOINT
from aeflow.errors import ArtifactError
from aeflow.runtime.checked_tensors import load_checked, save_checked

State = dict[str, Tensor]

OF_PROCESSES = ("threads", "cores")  # parts of the arithmetic that go with the number of processes


@dataclass(slots=True)
class Progress:
    """State of a training after ``epoch`` epochs."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)  # one row an epoch
    epoch_scores: list[dict[str, list[float]]] = field(default_factory=list)  # "normal", "abnormal" of each epoch

    @property
    def epochs_without_gain(self) -> int:
        return self.epoch - self.best_epoch


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a training goes on from."""

    progress: Progress
    weights: State
    best: State  # the weights of the best epoch
    moments: dict[int, State]  # Adam's, of each parameter


def save_checkpoint(
    run: Path, task: dict[str, Any], progress: Progress, weights: State, best: State, optimizer: torch.optim.Optimizer
) -> None:
    """Replace the checkpoint of ``run``; only a training with the same ``task`` (settings, data) may continue it."""
    tensors = {f"weights/{key}": value for key, value in weights.items()}
    tensors |= {f"best/{key}": value for key, value in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in moments.items()}
    header = {"task": json.dumps(task, sort_keys=True)}
    header["progress"] = json.dumps({name: getattr(progress, name) for name in Progress.__slots__})
    save_checked(run / CHECKPOINT, tensors, header)


def check_checkpoint(run: Path, task: dict[str, Any]) -> None:
    """Raise ArtifactError if the checkpoint of ``run`` is missing, damaged, or of another ``task``."""
    _read(run, task)


def load_checkpoint(run: Path, task: dict[str, Any], device: torch.device) -> Checkpoint:
    """Return the checkpoint of ``run`` on ``device``; raises ArtifactError as ``check_checkpoint``."""
    tensors, progress = _read(run, task)
    groups: dict[str, State] = {"weights": {}, "best": {}, "optimizer": {}}
    for key, value in tensors.items():
        group, name = key.split("/", 1)
        groups[group][name] = value.to(device)
    moments: dict[int, State] = {}
    for name, value in groups["optimizer"].items():
        index, key = name.split("/")
        moments.setdefault(int(index), {})[key] = value
    return Checkpoint(progress, groups["weights"], groups["best"], moments)


def _read(run: Path, task: dict[str, Any]) -> tuple[State, Progress]:
    """Return the tensors and the progress of a whole checkpoint of this very task; raises ArtifactError.

    That there is one: ``artifacts.free_place``.
    """
    path = run / CHECKPOINT
    try:
        tensors, header = load_checked(path)
        saved, progress = json.loads(header["task"]), Progress(**json.loads(header["progress"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        remedy = "train from the start with --overwrite instead of --resume"
        raise ArtifactError(path, f"damaged checkpoint ({error})", remedy) from error
    now_task = json.loads(json.dumps(task))
    if saved.pop("processes", 1) != now_task.pop("processes", 1):
        for arithmetic in (saved.get("arithmetic", {}), now_task.get("arithmetic", {})):
            for name in OF_PROCESSES:
                arithmetic.pop(name, None)
    for part, now in now_task.items():
        if saved.get(part) != now:
            remedy = f"resume with the same {part}, or train from the start with --overwrite"
            raise ArtifactError(
                path, f"belongs to a training with other {part}{differences(saved.get(part), now)}", remedy
            )
    return tensors, progress


def differences(saved: Any, now: Any) -> str:
    """Return what differs between two parts of a task that have names for what is in them."""
    if not isinstance(saved, dict) or not isinstance(now, dict):
        return ""
    other = [name for name in now if saved.get(name) != now[name]]
    return ": " + ", ".join(f"{name} {saved.get(name)}, now {now[name]}" for name in other)
