"""Positions of a grid and the eight around each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEVER = 1e6  # far above any energy, or any filter in spreads


def neighbours(x: Tensor) -> Tensor:
    """Return values (B, C, h, w) of each position and of those around it, (9, B, C, h, w); the outer ones repeat."""
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return torch.stack([padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)])


def beyond(weight: Tensor) -> Tensor:
    """Return what is added to the positions around each of which less than half counts, so that none is the least.

    (9, B, h, w), continuous in ``weight`` (B, h, w) in [0, 1]. Nothing is added to the position itself.
    """
    around = NEVER * (1 - 2 * neighbours(weight[:, None])[:, :, 0]).clamp_min(0)
    return torch.cat([around[:4], torch.zeros_like(around[4:5]), around[5:]])
