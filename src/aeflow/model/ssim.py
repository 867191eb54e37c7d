"""Structural similarity of images."""

from __future__ import annotations

import torch
from torch import Tensor


def ssim_map(x: Tensor, y: Tensor, window: int = 7) -> Tensor:
    """SSIM (Wang et al. 2004) of ``x`` and ``y`` (B, C, H, W) in [0, 1], at each place of a uniform window.

    Returns (B, C, H - window + 1, W - window + 1) in [-1, 1]. Data range 1, K1 0.01, K2 0.03, sample covariance: the
    definition of ``skimage.metrics.structural_similarity``.
    """
    n = window * window
    y = y.contiguous()  # a decoder's output has its channels last
    moments = torch.cat((x, y, x * x, y * y, x * y))
    mean_x, mean_y, xx, yy, xy = (_sums(_sums(moments, 2, window), 3, window) / n).chunk(5)
    unbiased = n / (n - 1)
    var_x = unbiased * (xx - mean_x * mean_x)
    var_y = unbiased * (yy - mean_y * mean_y)
    cov = unbiased * (xy - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def _sums(values: Tensor, dim: int, window: int) -> Tensor:
    """Sums over each run of ``window`` values along ``dim``: adds whole rows, as avg_pool2d does not on a CPU."""
    n = values.shape[dim] - window + 1
    sums = values.narrow(dim, 0, n) + values.narrow(dim, 1, n)
    for start in range(2, window):
        sums += values.narrow(dim, start, n)
    return sums


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Mean SSIM of each image, (B,)."""
    return ssim_map(x, y).mean(dim=(1, 2, 3))
