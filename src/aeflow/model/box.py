"""Box around a region: continuous in the region, and images and maps resampled into it and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.model.resizing import sides

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
    low, high = box[:, :2], box[:, 2:]
    return _sample(x, low, high - low, sides(x))


def paste(maps: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (B, h, w) of what their boxes show, laid back into pictures (B, *size) that are 0 outside the boxes.

    The inverse of ``crop`` inside the box, up to interpolation; the box's edge is one pixel soft.
    """
    low, high = box[:, :2], box[:, 2:]
    rows, columns = _sides_inside(low, high, size)
    laid = _sample(maps[:, None], -low / (high - low), 1 / (high - low), size)[:, 0]
    return laid * rows[:, :, None] * columns[:, None, :]


def shown(box: Tensor, size: tuple[int, int]) -> Tensor:
    """Return how far each position of boxes (B, 4) lies within the picture, (B, *size) in [0, 1]."""
    low, high = box[:, :2], box[:, 2:]
    rows, columns = _sides_inside(-low / (high - low), (1 - low) / (high - low), size)
    return rows[:, :, None] * columns[:, None, :]


def _sides_inside(low: Tensor, high: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """Return how far the rows (B, h) and the columns (B, w) of a ``size`` lie from ``low`` to ``high``, (B, 2)."""
    return [_inside(low[:, i : i + 1], high[:, i : i + 1], side) for i, side in enumerate(size)]


def _inside(low: Tensor, high: Tensor, side: int) -> Tensor:
    """Return how far each pixel of a side lies from ``low`` to ``high``, (B, 1) in sides: (B, side) in [0, 1]."""
    at = _centres(side, low)
    return ((at - low) * side + 0.5).clamp(0, 1) * ((high - at) * side + 0.5).clamp(0, 1)


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


def _sample(x: Tensor, start: Tensor, extent: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (B, C, h, w) at a grid of ``size``, (B, C, *size), from ``start`` over ``extent``.

    Both are (B, 2), row and column in sides. The grid's centres are the same for all images and a constant of a graph.
    """
    rows, columns = torch.meshgrid(_centres(size[0], x), _centres(size[1], x), indexing="ij")
    centres = torch.stack([columns, rows], dim=2)  # as grid_sample takes them, column first
    grid = 2 * (start.flip(1)[:, None, None] + extent.flip(1)[:, None, None] * centres) - 1
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
