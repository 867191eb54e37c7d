"""Box around a region: continuous in the region, and images and maps resampled into it and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CUT = 0.005  # share of the region's mass beyond each side of the box, before it is padded
PAD = 0.08  # of the box's size, at each side: 6 % to see what lies beside, and 2 %, which CUT takes of an ellipse
FEW, ENOUGH = 0.005, 0.02  # shares of the picture below which a region is none, and above which it is one


def box_of(region: Tensor) -> Tensor:
    """Return the boxes (B, 4) around regions (B, 1, H, W) in [0, 1]: top, left, bottom, right in sides of the picture.

    A side lies where the cumulative mass of rows or columns crosses ``CUT`` or ``1 - CUT``, then padded, so a box may
    reach out of the picture; the box of a region that is nearly empty is the whole picture.
    """
    p = region[:, 0]
    top, bottom = _ends(p.sum(dim=2))
    left, right = _ends(p.sum(dim=1))
    box = torch.stack([top, left, bottom, right], dim=1)
    there = ((p.mean(dim=(1, 2)) - FEW) / (ENOUGH - FEW)).clamp(0, 1)[:, None]
    return there * box + (1 - there) * box.new_tensor([0.0, 0.0, 1.0, 1.0])


def crop(x: Tensor, box: Tensor) -> Tensor:
    """Return images (B, C, H, W) as seen in their boxes (B, 4), at their own size; beyond the edge pixels repeat."""
    height, width = x.shape[2:]
    y = box[:, :1] + (box[:, 2:3] - box[:, :1]) * _centres(height, box)
    along = box[:, 1:2] + (box[:, 3:] - box[:, 1:2]) * _centres(width, box)
    return _sample(x, y, along)


def paste(maps: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (B, h, w) of what their boxes show, laid back into pictures (B, *size) that are 0 outside the boxes.

    The inverse of ``crop`` inside the box, up to interpolation; the box's edge is one pixel soft.
    """
    inside, places = [], []
    for side, low, high in ((size[0], box[:, :1], box[:, 2:3]), (size[1], box[:, 1:2], box[:, 3:])):
        at = _centres(side, box)
        places.append((at - low) / (high - low))
        inside.append(((at - low) * side + 0.5).clamp(0, 1) * ((high - at) * side + 0.5).clamp(0, 1))
    return _sample(maps[:, None], *places)[:, 0] * inside[0][:, :, None] * inside[1][:, None, :]


def _ends(mass: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the cumulative sums of masses (B, n) cross ``CUT`` and ``1 - CUT``, padded, as shares of n.

    ``sum_i clamp((q - F_{i-1}) / m_i, 0, 1)`` is the crossing of q by the distribution F, linear between positions.
    """
    n = mass.shape[1]
    share = mass / mass.sum(dim=1, keepdim=True).clamp_min(1e-6)
    before = share.cumsum(dim=1) - share
    low, high = (((q - before) / share.clamp_min(1e-9)).clamp(0, 1).sum(dim=1) / n for q in (CUT, 1 - CUT))
    pad = PAD * (high - low)
    return low - pad, high + pad


def _centres(n: int, like: Tensor) -> Tensor:
    """Return the centres (n,) of n pixels, in sides."""
    return (torch.arange(n, device=like.device).to(like.dtype) + 0.5) / n


def _sample(x: Tensor, y: Tensor, along: Tensor) -> Tensor:
    """Return images (B, C, h, w) at rows ``y`` (B, H) and columns ``along`` (B, W), in sides: (B, C, H, W)."""
    rows = y[:, :, None].expand(-1, -1, along.shape[1])
    columns = along[:, None, :].expand(-1, y.shape[1], -1)
    grid = 2 * torch.stack([columns, rows], dim=3) - 1
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
