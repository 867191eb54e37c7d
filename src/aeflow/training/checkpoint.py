"""Checkpoint of an unfinished training: one safetensors file, written as a whole after an epoch.

Adam's moments, the weights and the best weights so far are tensors; the rest is JSON in the file's header. Since
shuffling and learning rate are functions of seed and epoch, nothing else is needed to continue bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from aeflow.artifacts.layout import CHECKPOINT
from aeflow.errors import ArtifactError
from aeflow.runtime.files import write_bytes

State = dict[str, Tensor]


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


def save_checkpoint(
    run: Path, task: dict[str, Any], progress: Progress, weights: State, best: State, optimizer: torch.optim.Optimizer
) -> None:
    """Replace the checkpoint of ``run``; only a training with the same ``task`` (settings, data) may continue it."""
    tensors = {f"weights/{key}": value for key, value in weights.items()}
    tensors |= {f"best/{key}": value for key, value in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in moments.items()}
    # Each is copied, because tensors that share memory cannot be saved.
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    header = {"task": json.dumps(task, sort_keys=True)}
    header["progress"] = json.dumps({name: getattr(progress, name) for name in Progress.__slots__})
    write_bytes(run / CHECKPOINT, save(tensors, header))


def check_checkpoint(run: Path, task: dict[str, Any]) -> None:
    """Raise ArtifactError if the checkpoint of ``run`` is missing, cut short, or of other settings or data.

    Only its header is read.
    """
    path = run / CHECKPOINT
    if not path.is_file():
        raise ArtifactError(run, "no unfinished training to resume", "leave out --resume")
    with _readable(path), safe_open(path, "pt") as file:
        saved = json.loads(file.metadata()["task"])
    for part in task:
        if saved.get(part) != json.loads(json.dumps(task[part])):
            remedy = "resume with the same settings and images, or train from the start with --overwrite"
            raise ArtifactError(path, f"belongs to a training with other {part}", remedy)


def load_checkpoint(
    run: Path, task: dict[str, Any], optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[Progress, State, State]:
    """Return progress, weights and best weights of ``run``; fills ``optimizer``.

    Raises ArtifactError as ``check_checkpoint``, and if the rest of the file is damaged.
    """
    check_checkpoint(run, task)
    path = run / CHECKPOINT
    with _readable(path), safe_open(path, "pt", device=str(device)) as file:
        progress = Progress(**json.loads(file.metadata()["progress"]))
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    groups: dict[str, State] = {"weights": {}, "best": {}, "optimizer": {}}
    for key, value in tensors.items():
        group, name = key.split("/", 1)
        groups[group][name] = value
    moments: dict[int, State] = {}
    for name, value in groups["optimizer"].items():
        index, key = name.split("/")
        moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress, groups["weights"], groups["best"]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise ArtifactError for what safetensors or JSON find wrong with a file."""
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(path, "damaged checkpoint", "delete it and train from the start") from error
