"""Statistics of a region by which a reviewer learns that it is no such region: a hand, a cat, a picture on its side."""

from __future__ import annotations

import torch
from torch import Tensor

STATISTICS = (
    "area",
    "height of the centre",
    "side of the centre",
    "balance of left and right",
    "certainty",
    "vertical extent",
    "horizontal extent",
    "gap in the middle",
)
EMPTY = 1e-4  # share of the picture that is added to an area: an empty region has finite statistics


def region_statistics(region: Tensor) -> Tensor:
    """Return statistics (B, T), in the order of ``STATISTICS``, of regions (B, 1, H, W) in [0, 1].

    Log-odds of the area; mean (y, x) of its mass, in sides from the picture's middle; log-ratio of the masses right and
    left of that mean; ``log(1.02 - c)`` of the certainty ``c``, the mass's mean of ``|2 p - 1|``; logarithms of the
    mass's standard deviations along y and x, in sides; its kurtosis along x, low if two parts lie side by side.
    """
    p = region[:, 0]
    height, width = p.shape[1:]
    area = p.mean(dim=(1, 2))
    weight = p + EMPTY  # the whole picture, faintly
    mass = weight.sum(dim=(1, 2))
    y = ((torch.arange(height, device=p.device) + 0.5) / height - 0.5).to(p.dtype)
    x = ((torch.arange(width, device=p.device) + 0.5) / width - 0.5).to(p.dtype)
    rows = weight.sum(dim=2) / mass[:, None]
    columns = weight.sum(dim=1) / mass[:, None]
    centre_y, centre_x = (rows * y).sum(dim=1), (columns * x).sum(dim=1)
    from_y, from_x = y - centre_y[:, None], x - centre_x[:, None]
    variance_y, variance_x = (rows * from_y**2).sum(dim=1), (columns * from_x**2).sum(dim=1)
    right = (columns * (from_x * width + 0.5).clamp(0, 1)).sum(dim=1)  # the middle column is shared out
    certainty = (weight * (2 * p - 1).abs()).sum(dim=(1, 2)) / mass
    statistics = (
        torch.log((area + EMPTY) / (1 - area + EMPTY)),
        centre_y,
        centre_x,
        torch.log((right + EMPTY) / (1 - right + EMPTY)),
        torch.log(1.02 - certainty),
        0.5 * torch.log(variance_y),
        0.5 * torch.log(variance_x),
        (columns * from_x**4).sum(dim=1) / variance_x**2,
    )
    return torch.stack(statistics, dim=1)
