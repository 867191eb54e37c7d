"""Sizes of images and maps changed in ways that backends of graphs do fast: by matrices and whole windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sides(x: Tensor) -> tuple[int, int]:
    """Return height and width of images or maps (..., h, w) as numbers; while a graph is traced, they are tensors."""
    return int(x.shape[-2]), int(x.shape[-1])


def bilinear(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return images or maps (..., h, w) at another size, (..., *size), bilinear between the centres of pixels.

    Interpolation of rows and columns is linear, so two matrices do it: OpenVINO takes a quarter of the time of its own
    interpolation, which is made for many channels.
    """
    rows, columns = (_interpolation(n, m, x) for n, m in zip(sides(x), map(int, size), strict=True))
    return rows @ x @ columns.T


def averaged(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return images (B, C, H, W) or maps (B, H, W) at a smaller size, (..., *size), by averages over the cells.

    As ``adaptive_avg_pool2d`` does, for which OpenVINO takes many times as long.
    """
    (height, width), (h, w) = sides(x), map(int, size)
    if height % h == 0 and width % w == 0:
        return F.avg_pool2d(x, (height // h, width // w))
    rows, columns = _averages(height, h, x), _averages(width, w, x)
    return rows @ x @ columns.T


def _interpolation(n: int, m: int, like: Tensor) -> Tensor:
    """Return the matrix (m, n) that interpolates n values linearly at m places."""
    return F.interpolate(_units(n, like), m, mode="linear", align_corners=False)[0].T


def _averages(n: int, m: int, like: Tensor) -> Tensor:
    """Return the matrix (m, n) that averages n values in m cells, which may share one."""
    return F.adaptive_avg_pool1d(_units(n, like), m)[0].T


def _units(n: int, like: Tensor) -> Tensor:
    return torch.eye(n, dtype=like.dtype, device=like.device)[None]
