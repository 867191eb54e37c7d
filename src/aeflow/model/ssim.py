"""Structural similarity of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ssim_map(x: Tensor, y: Tensor, window: int = 7) -> Tensor:
    """SSIM (Wang et al. 2004) of ``x`` and ``y`` (B, C, H, W) in [0, 1], at each place of a uniform window.

    Returns (B, C, H - window + 1, W - window + 1) in [-1, 1]. Data range 1, K1 0.01, K2 0.03, sample covariance: the
    definition of ``skimage.metrics.structural_similarity``.
    """
    n = window * window
    moments = torch.cat((x, y, x * x, y * y, x * y))
    mean_x, mean_y, xx, yy, xy = F.avg_pool2d(moments, window, stride=1).chunk(5)
    unbiased = n / (n - 1)
    var_x = unbiased * (xx - mean_x * mean_x)
    var_y = unbiased * (yy - mean_y * mean_y)
    cov = unbiased * (xy - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Mean SSIM of each image, (B,)."""
    return ssim_map(x, y).mean(dim=(1, 2, 3))
