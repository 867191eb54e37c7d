"""Synthetic anomalies within a region, large and small, one- and two-sided, diffuse and focal.

Up to three layers each: a shape, a random field cut at a share of the region, and a kind, which says how tissue changes
there. They decide in which directions the score's terms look for a change, and nothing else: none is a disease.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.model.described import blurred
from aeflow.model.front import CELL, Seen
from aeflow.training.random_fields import power_law_fields

LAYERS = (1.0, 0.45, 0.2)  # chance of a first layer, of a second, of a third
SHARES = (0.03, 0.95)  # of the region that a layer covers
STRENGTHS = (0.15, 0.9)
TISSUE, SMOOTHING = 0.08, 3.0  # brightness from which a pixel, smoothed by so many pixels, is tissue
VISIBLE = 0.08  # change of grey value that counts as a whole one


@dataclass(frozen=True, slots=True)
class Layer:
    """What a kind of anomaly changes, of some images."""

    x: Tensor  # (B, 1, H, W) the images so far
    mask: Tensor  # (B, 1, H, W) in [0, 1]
    strength: Tensor  # (B, 1, 1, 1)
    tissue: Tensor  # (B, 1, 1, 1) brightness of dense tissue in the picture
    generator: torch.Generator

    def field(self, low: float, high: float) -> Tensor:
        """Return random fields of a range of slopes."""
        return power_law_fields(len(self.x), self.x.shape[-1], (low, high), self.generator)

    def uniform(self, low: float, high: float) -> float:
        """Draw a number."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def shift(self, least: float, most: float) -> int:
        """Draw a distance in pixels, either way, between shares of a side."""
        side = 1 if self.uniform(0, 1) < 0.5 else -1
        return side * round(self.uniform(least, most) * self.x.shape[-1])


def haze(at: Layer) -> Tensor:
    """Return a veil towards dense tissue."""
    return at.x + (at.tissue - at.x) * at.strength * at.mask * torch.exp(0.15 * at.field(1.5, 4.0))


def consolidation(at: Layer) -> Tensor:
    """Return dense tissue in place of what was there."""
    dense = (at.tissue + 0.06 * at.field(2.0, 3.0) * blurred(at.mask, 1.0)).clamp(0, 1)
    return at.x + (dense - at.x) * at.mask * at.strength


def streaks(at: Layer) -> Tensor:
    """Return added fine texture."""
    rough = at.field(0.6, 1.6)
    rough = rough - blurred(rough, 6.0)
    rough = rough / rough.std(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    return at.x + at.mask * at.strength * (0.09 * rough + 0.05)


def foreign(at: Layer) -> Tensor:
    """Return another patient's tissue, at this one's brightness half of the time."""
    order = torch.randperm(len(at.x), generator=at.generator)
    other = torch.roll(at.x[order], (at.shift(0, 0.27), at.shift(0, 0.27)), dims=(2, 3))
    if at.uniform(0, 1) < 0.5:
        other = other.flip(3)
    if at.uniform(0, 1) < 0.5:
        other = other - blurred(other, 10.0) + blurred(at.x, 10.0)
    return at.x + (other - at.x) * at.mask * at.strength


def lost_texture(at: Layer) -> Tensor:
    """Return the tissue smoothed and a little brighter."""
    smooth = blurred(at.x, at.uniform(2, 6))
    return at.x + (smooth - at.x) * at.mask + 0.08 * at.strength * at.mask


def nodules(at: Layer) -> Tensor:
    """Return bright spots."""
    return at.x + at.mask * at.strength * 0.35 * (at.field(3.0, 5.0) - 1).clamp(0, 1.5)


def misplaced(at: Layer) -> Tensor:
    """Return tissue from elsewhere in the same picture."""
    moved = torch.roll(at.x, (at.shift(0.25, 0.36), at.shift(0, 0.3)), dims=(2, 3))
    return at.x + (moved - at.x) * at.mask * at.strength


KINDS_IN_REGION: tuple[Callable[[Layer], Tensor], ...] = (
    haze,
    consolidation,
    streaks,
    foreign,
    lost_texture,
    nodules,
    misplaced,
)


def anomalies_seen(seen: Seen, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images as seen with synthetic anomalies in their regions, and the change, as ``anomalies_in`` does."""
    return anomalies_in(seen.x, F.interpolate(seen.region, scale_factor=CELL), generator)


def anomalies_in(x: Tensor, region: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images with synthetic anomalies, (B, 3, H, W), and how much each pixel changed, (B, 1, H, W) in [0, 1].

    ``x`` (B, 3, H, W) in [0, 1] and ``region`` (B, 1, H, W) in [0, 1]. Colours change by the same amount.
    """
    grey = x.mean(dim=1, keepdim=True)
    y, n = grey, len(x)
    inside = (grey * region).sum(dim=(2, 3), keepdim=True) / region.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
    tissue = torch.maximum(torch.quantile(grey.flatten(1)[:, ::5], 0.8, dim=1).view(-1, 1, 1, 1), inside + 0.15)
    region = region * (blurred(grey, SMOOTHING) > TISSUE)  # air within a region stays as it is
    for chance in LAYERS:
        taken = (torch.rand(n, 1, 1, 1, generator=generator) < chance).float()
        mask = _shapes(region, generator) * taken
        strength = _uniform(n, *STRENGTHS, generator)
        kinds = torch.randint(len(KINDS_IN_REGION), (n,), generator=generator)
        new = y.clone()
        for number, kind in enumerate(KINDS_IN_REGION):
            rows = torch.nonzero(kinds == number)[:, 0]
            if len(rows):
                layer = Layer(y[rows], mask[rows], strength[rows], tissue[rows], generator)
                new[rows] = kind(layer).clamp(0, 1)
        y = new
    away = (y - grey).abs()
    change = (torch.maximum(blurred(away, 3.0), 0.5 * blurred(away, 8.0)) / VISIBLE).clamp(0, 1)
    return (x + y - grey).clamp(0, 1), change


def _shapes(region: Tensor, generator: torch.Generator) -> Tensor:
    """Return soft shapes (B, 1, H, W) in [0, 1] that cover a random share of regions, or of one side of them."""
    n, side = len(region), region.shape[-1]
    field = power_law_fields(n, side, (1.5, 4.0), generator)
    x = torch.linspace(0, 1, side).view(1, 1, 1, -1)
    centre = (region * x).sum(dim=(2, 3), keepdim=True) / region.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
    which = torch.rand(n, 1, 1, 1, generator=generator)
    of_side = torch.where(which < 0.3, x < centre, torch.where(which < 0.6, x >= centre, True)).float()
    soft = blurred(region, 1.5) * (region > 0.2) * of_side
    share = torch.exp(_uniform(n, math.log(SHARES[0]), math.log(SHARES[1]), generator))[:, 0, 0, 0]
    within = torch.where(soft > 0.3, field, -1e4).flatten(1)[:, ::3]
    falling, _ = torch.sort(within, dim=1, descending=True)
    at = ((within > -1e3).sum(dim=1) * share).long().clamp(0, within.shape[1] - 1)
    cut = falling.gather(1, at[:, None]).view(-1, 1, 1, 1)
    edge = torch.exp(_uniform(n, -2.2, 0.0, generator)) / 2
    return torch.sigmoid((field - cut) / edge) * soft


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator)
