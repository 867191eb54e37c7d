"""Use of a device: its arithmetic, images and features on it, and smaller batches if its memory is too small.

The CPU takes the same path as CUDA, so what is tested on one is what runs on the other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from aeflow.errors import SettingsError, count
from aeflow.runtime import ranks
from aeflow.runtime.terminal import print

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of how networks run on a device. An option that was not measured there, or gains nothing, is off.

    bfloat16 is for training flows and decoder; their log-determinants, losses and gradients stay float32. A model
    scores in float32, as it was calibrated, whatever the arithmetic of a device; on an H200 bfloat16 would be faster in
    large batches only, and by little (``docs/performance.md``). CUDA rounds the encoder's convolutions to TF32, torch's
    own default.
    """

    train_bfloat16: bool = False
    compiler: str | None = None  # of torch.compile: its first epoch takes longer than it saves in a hundred
    hold: bool | None = None  # all cached features on the device; None: if it ``has_room``

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """Return the plan for a device, with bfloat16 for training if the hardware has it.

        What torchrun started trains in float32: in bfloat16 the gradient of each share is rounded to eight bits by
        itself, and the model would depend on the number of processes.
        """
        if ranks.launched():
            return cls()
        if device.type == "cuda":
            return cls(train_bfloat16=torch.cuda.get_device_capability(device) >= (8, 0))
        found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return cls(train_bfloat16=bool(found.get("avx512_bf16") or found.get("amx_bf16")))


def moved(x: Tensor, device: torch.device) -> Tensor:
    """Return ``x`` on ``device``; the copy to CUDA starts from pinned memory, and nothing waits for it."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x


def images_on(x: Tensor, device: torch.device) -> Tensor:
    """Return images (B, 3, H, W) float32 in [0, 1] on ``device``; uint8 is copied as such, a quarter of the bytes."""
    x = moved(x, device)
    return x.float() / 255 if x.dtype == torch.uint8 else x


def has_room(needed: int, device: torch.device) -> bool:
    """Return if ``needed`` bytes take at most half of the memory that is free on a GPU; the rest is for activations.

    Never on a CPU, where the page cache already holds what is read.
    """
    return device.type == "cuda" and needed <= torch.cuda.mem_get_info(device)[0] // 2


def halving(attempt: Callable[[int], T], size: int) -> tuple[T, int]:
    """Return ``attempt(size)``, with ``size`` halved each time the GPU's memory is too small, and the size that fits.

    ``attempt`` does all its work in parts of at most ``size`` images, and may be called again. Each smaller size is
    noted on stderr; raises SettingsError if not even one image fits.
    """
    while True:
        try:
            return attempt(size), size
        except torch.OutOfMemoryError:
            if size == 1:
                remedy = "free some of it, take a smaller image_size, or --device cpu"
                raise SettingsError("device", "the GPU's memory does not hold a single image", remedy) from None
        # Only here has the failed attempt freed its tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = (size + 1) // 2
        print(f"note: the GPU's memory is too small; going on with {count(size, 'image')} at a time", file=sys.stderr)


def in_parts(compute: Callable[..., T], size: int, *columns: Sequence[Any] | Tensor) -> tuple[list[T], int]:
    """Return ``compute`` of each part of ``columns``, at most ``size`` rows by ``halving``, and the size that fits."""

    def attempt(size: int) -> list[T]:
        starts = range(0, len(columns[0]), size)
        return [compute(*(column[start : start + size] for column in columns)) for start in starts]

    return halving(attempt, size)
