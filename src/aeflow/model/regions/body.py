"""Body as a region: all but the background, and without burned-in text and side markers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.model.described import blurred
from aeflow.model.encoder import Encoder
from aeflow.model.regions.base import Region
from aeflow.model.resizing import bilinear, sides

NORMAL_SIDE = 224  # pixels of the picture that the lengths below are for; they scale with the shorter side
SMOOTHING = 3.0  # spread of the Gaussian that takes noise and gaps out of the background
TISSUE, TISSUE_SOFTNESS = 0.06, 0.01  # brightness from which a smoothed pixel is tissue
HOLE = 25  # pixels across that a dark hole in the body may have
COARSE = 2  # pixels a side of a cell in which it looks: a quarter of the time
STROKE = 9  # side of the square that no stroke of a letter fills
LETTER = 28  # pixels that no letter is long in any direction, and ribs, the skull's rim are
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))  # (rows, columns) of a step
THIN, THIN_SOFTNESS = 0.3, 0.03  # how far a stroke stands out from what fills the square
SHORT, SHORT_SOFTNESS = 0.25, 0.03  # how far it stands out from what is long
BRIGHT, BRIGHT_SOFTNESS = 0.7, 0.03  # share of the picture's brightest pixel that it reaches
AROUND = 4  # pixels around a stroke that are left out with it


class Body(Region):
    """``p(x) = tissue(G * x) (1 - dilate(stroke(x - open(x))))``: tensor operations alone, soft and continuous in x."""

    beside = False
    boxed = False

    def forward(self, x: Tensor, encoder: Encoder) -> Tensor:
        """Return tissue without strokes, (B, 1, H, W)."""
        whole = x.mean(dim=1, keepdim=True)
        grey = F.max_pool2d(whole, COARSE) if min(sides(whole)) >= NORMAL_SIDE else whole  # keeps bright strokes
        square = _odd(STROKE * _scale(grey))
        thick = _dilated(-_dilated(-grey, square), square)
        left_out = strokes(grey, thick)
        found = tissue(grey - left_out * (grey - thick)) * (1 - left_out)  # or a letter would glow into the background
        return bilinear(found, sides(whole))


def tissue(grey: Tensor) -> Tensor:
    """Return where a smoothed picture (B, 1, H, W) in [0, 1] is brighter than the background, holes filled.

    Ventricles and cysts are as dark as the background and belong to the body: a closing takes them in.
    """
    scale = _scale(grey)
    bright = ((blurred(grey, SMOOTHING * scale, spreads=3.0) - TISSUE) / TISSUE_SOFTNESS).sigmoid()
    return -_dilated(-_dilated(bright, _odd(HOLE * scale)), _odd(HOLE * scale))


def strokes(grey: Tensor, thick: Tensor) -> Tensor:
    """Return where thin, short, very bright strokes of burned-in text and markers are, and a margin around them.

    White top-hats ``x - open(x)`` (Serra, 1982): of a square, which has all that is thin, and of lines in eight
    directions, which has all that is short. ``thick`` is the opening by the square. Lines are opened in the dilated
    picture, so that a bent one counts as long.
    """
    scale = _scale(grey)
    long = _long(_dilated(grey, 3), LETTER * scale)
    thin = ((grey - thick - THIN) / THIN_SOFTNESS).sigmoid()
    short = ((grey - long - SHORT) / SHORT_SOFTNESS).sigmoid()
    bright = ((grey - BRIGHT * grey.amax(dim=(2, 3), keepdim=True)) / BRIGHT_SOFTNESS).sigmoid()
    return _dilated(thin * short * bright, _odd(2 * AROUND * scale))


def _long(grey: Tensor, length: float) -> Tensor:
    """Return the greatest of the openings by lines of ``length`` pixels in ``DIRECTIONS``; outside all is black."""
    border = math.ceil(length)
    padded = F.pad(grey, (border, border, border, border))
    opened = []
    for step in DIRECTIONS:
        positions = max(2, round(length / math.hypot(*step)))
        eroded = _along(padded, step, positions, torch.minimum)
        opened.append(_along(eroded, (-step[0], -step[1]), positions, torch.maximum))
    return torch.stack(opened).amax(dim=0)[:, :, border:-border, border:-border]


def _along(x: Tensor, step: tuple[int, int], positions: int, pick: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the least or greatest value at each pixel and the ``positions - 1`` next ones, by doubling."""
    covered = 1
    while covered < positions:
        by = min(covered, positions - covered)
        x = pick(x, torch.roll(x, (-by * step[0], -by * step[1]), (2, 3)))
        covered += by
    return x


def _scale(grey: Tensor) -> float:
    return min(sides(grey)) / NORMAL_SIDE


def _odd(side: float) -> int:
    """Return the odd number of pixels next to a length, at least 3."""
    return max(3, 2 * round((side - 1) / 2) + 1)


def _dilated(grey: Tensor, side: int) -> Tensor:
    """Return the greatest value in the square around each pixel."""
    rows = F.max_pool2d(grey, (side, 1), stride=1, padding=(side // 2, 0))
    return F.max_pool2d(rows, (1, side), stride=1, padding=(0, side // 2))
