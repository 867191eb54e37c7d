"""Mean over the highest positions of a map."""

from __future__ import annotations

import torch
from torch import Tensor


def top_mean(values: Tensor, share: float, weight: Tensor | None = None) -> Tensor:
    """Return the mean over the highest ``share`` of the positions of maps (B, h, w), (B,).

    ``weight`` (B, h, w) in [0, 1] says how far each position counts, and positions are taken from the highest down
    until their weights add up to the share, the last one in part: so the mean is continuous in values and weights.
    Without weights it is the mean of whole positions, at least one.
    """
    flat = values.flatten(1)
    if weight is None:
        highest, _ = torch.topk(flat, max(1, round(share * int(flat.shape[1]))), dim=1)
        return highest.mean(dim=1)
    falling, order = torch.sort(flat, dim=1, descending=True)
    weights = weight.flatten(1).gather(1, order)
    wanted = (share * weights.sum(dim=1, keepdim=True)).clamp_min(1e-3)
    before = torch.cumsum(weights, dim=1) - weights
    taken = torch.minimum((wanted - before).clamp_min(0), weights)
    return (taken * falling).sum(dim=1) / taken.sum(dim=1).clamp_min(1e-6)
