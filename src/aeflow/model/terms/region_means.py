"""Means of a description over the region, its quarters, and its left half less its right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

VIEWS = ("region", "quarters", "sides")


def view_weights(view: str, weight: Tensor) -> list[Tensor]:
    """Return for each mean that a view consists of how far each position enters it; (B, h, w) each.

    ``weight`` (B, h, w) says how far each position counts. The two halves' weights come with opposite signs and make
    one mean: ``left - right``.
    """
    height, width = weight.shape[1:]
    left = (torch.arange(width, device=weight.device) < width / 2).to(weight.dtype).expand(height, width)
    top = (torch.arange(height, device=weight.device) < height / 2).to(weight.dtype)[:, None].expand(height, width)
    if view == "region":
        return [_normalised(weight)]
    if view == "quarters":
        return [_normalised(weight * a * b) for a in (top, 1 - top) for b in (left, 1 - left)]
    return [_normalised(weight * left) - _normalised(weight * (1 - left))]


def region_means(z: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the weighted sums of ``z`` (B, C, h, w) side by side, (B, C * len(weights))."""
    return torch.cat([torch.einsum("bchw,bhw->bc", z, weight) for weight in weights], dim=1)


def _normalised(weight: Tensor) -> Tensor:
    return weight / weight.sum(dim=(1, 2), keepdim=True).clamp_min(1e-3)
