"""Body as a region: all but the background, and without burned-in text and side markers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeflow.model.regions.base import Region

NORMAL_SIDE = 224  # pixels of the picture that the lengths below are for; they scale with the shorter side
SMOOTHING = 3.0  # spread of the Gaussian that takes noise and gaps out of the background
TISSUE, TISSUE_SOFTNESS = 0.08, 0.01  # brightness from which a smoothed pixel is tissue
STROKE = 5  # side of the square that no stroke of text fills
STEP, STEP_SOFTNESS = 0.4, 0.03  # how far a stroke stands out from what is under it
BRIGHT, BRIGHT_SOFTNESS = 0.75, 0.03  # share of the picture's brightest pixel that a stroke reaches
AROUND = 4  # pixels around a stroke that are left out with it


class Body(Region):
    """``p(x) = tissue(G * x) (1 - dilate(stroke(x - open(x))))``: tensor operations alone, soft and continuous in x."""

    beside = False
    boxed = False

    def forward(self, x: Tensor, encoder: nn.Module) -> Tensor:
        """Return tissue without strokes, (B, 1, H, W)."""
        grey = x.mean(dim=1, keepdim=True)
        return tissue(grey) * (1 - strokes(grey))


def tissue(grey: Tensor) -> Tensor:
    """Return where a smoothed picture (B, 1, H, W) in [0, 1] is brighter than the background."""
    return ((_blurred(grey, SMOOTHING * _scale(grey)) - TISSUE) / TISSUE_SOFTNESS).sigmoid()


def strokes(grey: Tensor) -> Tensor:
    """Return where thin, sharp, very bright strokes of burned-in text and markers are, and a margin around them.

    The white top-hat ``x - open(x)`` (Serra, 1982) has what is narrower than its square and brighter than its ground.
    """
    scale = _scale(grey)
    opened = _dilated(-_dilated(-grey, _odd(STROKE * scale)), _odd(STROKE * scale))
    stands_out = ((grey - opened - STEP) / STEP_SOFTNESS).sigmoid()
    brightest = grey.amax(dim=(2, 3), keepdim=True)
    bright = ((grey - BRIGHT * brightest) / BRIGHT_SOFTNESS).sigmoid()
    return _dilated(stands_out * bright, _odd(2 * AROUND * scale))


def _scale(grey: Tensor) -> float:
    return min(grey.shape[2:]) / NORMAL_SIDE


def _odd(side: float) -> int:
    """Return the odd number of pixels next to a length, at least 3."""
    return max(3, 2 * round((side - 1) / 2) + 1)


def _dilated(grey: Tensor, side: int) -> Tensor:
    """Return the greatest value in the square around each pixel."""
    rows = F.max_pool2d(grey, (side, 1), stride=1, padding=(side // 2, 0))
    return F.max_pool2d(rows, (1, side), stride=1, padding=(0, side // 2))


def _blurred(grey: Tensor, sigma: float) -> Tensor:
    """Return the picture blurred by a Gaussian; beyond the edge its pixels repeat."""
    reach = math.ceil(3 * sigma)
    at = torch.arange(-reach, reach + 1, device=grey.device).to(grey.dtype)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(grey, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
