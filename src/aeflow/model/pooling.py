"""Pooled features of an image: mean and spread of each channel.

``z = mean + spread * rest`` splits features into the vector ``s = (mean, spread)`` and a rest of mean 0 and spread 1,
and nothing is lost. Classes of images differ in ``s`` here: ``p(z, y) = p(y) p(s | y) p(rest | s)``, so the posterior
of ``y`` needs ``s`` alone. Another ``s`` with the same rest is adaptive instance normalisation (Huang and Belongie
2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.model.resizing import sides


def pool(features: Sequence[Tensor], region: Tensor | None = None) -> Tensor:
    """Return ``s`` (B, 2 * sum of C): mean and spread over the positions of unit-length features (B, C, h, w).

    Within a ``region`` (B, 1, H, W) in [0, 1] each position weighs by its share of the region; without one all alike.
    """
    parts: list[Tensor] = []
    for z in map(unit_length, features):
        parts += statistics(z, region)
    return torch.cat(parts, dim=1)


def statistics(z: Tensor, region: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return mean and spread (B, C) each of ``z`` (B, C, h, w) over its positions, or within a region."""
    if region is None:
        return z.mean(dim=(2, 3)), z.std(dim=(2, 3), correction=0)
    share = F.avg_pool2d(region, sides(region)[1] // sides(z)[1])
    weight = share / share.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    mean = (weight * z).sum(dim=(2, 3), keepdim=True)
    variance = (weight * (z - mean).square()).sum(dim=(2, 3))
    return mean[:, :, 0, 0], variance.sqrt()


def with_statistics(z: Tensor, s: Tensor, region: Tensor | None = None) -> Tensor:
    """Return ``z`` (B, C, h, w) with the mean and spread ``s`` (B, 2 C) in place of its own, as ``pool`` takes them."""
    mean, spread = s[:, :, None, None].chunk(2, dim=1)
    own_mean, own_spread = (part[:, :, None, None] for part in statistics(z, region))
    return mean + spread.clamp_min(0) * (z - own_mean) / own_spread.clamp_min(1e-6)


def unit_length(z: Tensor) -> Tensor:
    """Return ``z * sqrt(C) / |z|`` at each position of ``z`` (B, C, h, w): directions without strength."""
    length: float = math.sqrt(z.shape[1])
    return F.normalize(z, dim=1) * length
