"""Pooled features of an image: mean and spread of each channel.

``z = mean + spread * rest`` splits features into the vector ``s = (mean, spread)`` and a rest of mean 0 and spread 1,
and nothing is lost. Classes of images differ in ``s`` here: ``p(z, y) = p(y) p(s | y) p(rest | s)``, so the posterior
of ``y`` needs ``s`` alone. Another ``s`` with the same rest is adaptive instance normalisation (Huang and Belongie
2017).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeflow.model.encoder import Encoder


def pool(features: list[Tensor]) -> Tensor:
    """Return ``s`` (B, 2 * sum of C): mean and spread over the positions of unit-length features (B, C, h, w)."""
    parts = []
    for z in map(unit_length, features):
        parts += [z.mean(dim=(2, 3)), z.std(dim=(2, 3), correction=0)]
    return torch.cat(parts, dim=1)


def with_statistics(z: Tensor, s: Tensor) -> Tensor:
    """Return ``z`` (B, C, h, w) with the mean and spread ``s`` (B, 2 C) in place of its own."""
    mean, spread = s[:, :, None, None].chunk(2, dim=1)
    own = z.std(dim=(2, 3), correction=0, keepdim=True).clamp_min(1e-6)
    return mean + spread.clamp_min(0) * (z - z.mean(dim=(2, 3), keepdim=True)) / own


def unit_length(z: Tensor) -> Tensor:
    """Return ``z * sqrt(C) / |z|`` at each position of ``z`` (B, C, h, w): directions without strength."""
    length: float = math.sqrt(z.shape[1])
    return F.normalize(z, dim=1) * length


class Pooled(nn.Module):
    """An encoder whose only feature map is ``s`` as (B, D, 1, 1), for a cache that keeps vectors alone."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.name, self.stages, self.mean = f"pooled {encoder.name}", encoder.stages, encoder.mean

    def forward(self, x: Tensor) -> list[Tensor]:
        return [pool(self.encoder(x))[:, :, None, None]]

    def fingerprint(self) -> str:
        """Return the encoder's fingerprint."""
        return self.encoder.fingerprint()
