"""Whole image as a region: every pixel counts."""

from __future__ import annotations

import torch
from torch import Tensor

from aeflow.model.encoder import Encoder
from aeflow.model.regions.base import Region


class WholeImage(Region):
    """Region without a restriction."""

    beside = False
    boxed = False

    def forward(self, x: Tensor, encoder: Encoder) -> Tensor:
        """Return ones (B, 1, H, W)."""
        return torch.ones_like(x[:, :1])
