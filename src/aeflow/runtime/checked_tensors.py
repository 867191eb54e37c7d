"""Tensors in a safetensors file that carries the SHA-256 of all that is in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from aeflow.runtime.files import write_bytes

CHECKSUM = "sha256"  # its name in the header


def save_checked(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors and the strings of a header, as a whole or not at all."""
    # Each is copied, because tensors that share memory cannot be saved.
    kept = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(kept, {**header, CHECKSUM: _checksum(kept, header)}))


def load_checked(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and header; raises SafetensorError, OSError or ValueError if the file is damaged.

    One without any header was written by an earlier version, and is taken as it is.
    """
    with safe_open(path, "pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if header is not None and header.pop(CHECKSUM, None) != _checksum(tensors, header):
        raise ValueError("checksum differs")
    return tensors, header or {}


def _checksum(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    total = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        total.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        total.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
