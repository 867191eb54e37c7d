"""Description of images at each position of a coarse grid, as the terms of the score see it.

At stride ``STRIDE``: the encoder's feature vectors of several stages, each of unit length, and beside them how bright
the tissue is and how much texture it has. Brightness counts relative to a reference, for no exposure is absolute, and
an ImageNet encoder throws it away (``INTENSITIES`` channels, the last ones).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.model.resizing import averaged, sides

STRIDE = 16
BRIGHTNESS_SCALES = (2.0, 4.0, 8.0)  # pixels: spread of the Gaussians whose mean is a brightness
TEXTURE_SCALES = (1.0, 2.0, 4.0, 8.0)  # pixels: ends of the bands whose spread is a texture
TEXTURE_REACH = 4.0  # pixels: spread of the Gaussian over which a band's spread is taken
AXES = {"left-right": 3, "up-down": 2}  # dimension of a description (B, D, h, w) that is flipped
INTENSITIES = len(BRIGHTNESS_SCALES) + len(TEXTURE_SCALES)


@dataclass(frozen=True, slots=True)
class Described:
    """Descriptions of images, and how far each position counts."""

    z: Tensor  # (B, D, h, w): encoder's channels, then INTENSITIES
    weight: Tensor  # (B, h, w) in [0, 1]: the region's share of each position
    mirror_axis: str = "left-right"  # one of AXES

    def __len__(self) -> int:
        return len(self.z)

    def at(self, rows: Tensor) -> Described:
        """Return the descriptions of some images."""
        return replace(self, z=self.z[rows], weight=self.weight[rows])

    @property
    def mirrored(self) -> Tensor:
        """The mirror image of ``z``.

        It stands for the description of the mirror image, which would take a second pass through the encoder; the terms
        take off their mean difference.
        """
        return self.z.flip(AXES[self.mirror_axis])

    @property
    def mirrored_weight(self) -> Tensor:
        """The mirror image of ``weight``."""
        return self.weight.flip(AXES[self.mirror_axis] - 1)


def describe_appearance(features: Sequence[Tensor]) -> Tensor:
    """Return features (B, C_i, h_i, w_i) of several stages as one (B, sum C_i, h, w), at the coarsest one's grid.

    Each stage's vector has unit length at each of its positions: directions without strength.
    """
    width = sides(features[-1])[1]
    parts = []
    for z in features:
        unit = F.normalize(z.float(), dim=1)
        stride = sides(unit)[1] // width
        parts.append(F.avg_pool2d(unit, stride) if stride > 1 else unit)
    return torch.cat(parts, dim=1)


def describe_intensity(x: Tensor, region: Tensor, beside: bool) -> Tensor:
    """Return brightness and texture (B, INTENSITIES, H / STRIDE, W / STRIDE) of images ``x`` (B, 3, H, W).

    Brightness at several scales less a reference, over the picture's spread; then the logarithm of the spread of
    several bands over it. The reference is the mean of what lies beside the ``region`` (B, 1, h, w), or the region's
    own if nothing but background does.
    """
    grey = x.mean(dim=1, keepdim=True)
    reference, spread = _mean_and_spread(grey, region, beside)
    smooth = {sigma: blurred(grey, sigma) for sigma in TEXTURE_SCALES}
    cells = [(F.avg_pool2d(smooth[sigma], STRIDE) - reference) / spread for sigma in BRIGHTNESS_SCALES]
    before = grey
    for sigma in TEXTURE_SCALES:
        power = blurred((before - smooth[sigma]).square(), TEXTURE_REACH).clamp_min(0)
        cells.append(F.avg_pool2d(torch.log((power + 1e-9).sqrt() / spread + 1e-3), STRIDE))
        before = smooth[sigma]
    return torch.cat(cells, dim=1)


def _mean_and_spread(grey: Tensor, region: Tensor, beside: bool) -> tuple[Tensor, Tensor]:
    """Return the reference of brightness and the spread of grey values, (B, 1, 1, 1) each."""
    seen = torch.ones_like(region) if beside else region
    mean = _mean_within(grey, seen)
    spread = _mean_within((grey - mean).square(), seen).sqrt()
    return _mean_within(grey, 1 - region) if beside else mean, (SPREAD_RANGE * spread).clamp_min(0.05)


SPREAD_RANGE = 2.5  # standard deviations that count as the picture's range


def _mean_within(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of each image (B, 1, H, W) with the weights (B, 1, h, w) of its cells, (B, 1, 1, 1)."""
    cells = averaged(values, weight.shape[2:])
    pixels = values.shape[2] * values.shape[3] / (weight.shape[2] * weight.shape[3])  # of a cell
    total = weight.sum(dim=(2, 3), keepdim=True).clamp_min(1 / pixels)
    return (cells * weight).sum(dim=(2, 3), keepdim=True) / total


def blurred(x: Tensor, sigma: float, spreads: float = 2.0) -> Tensor:
    """Return images (B, C, H, W) under a Gaussian of spread ``sigma`` in pixels, cut at ``spreads`` of them.

    Beyond the edges their pixels repeat. Torch multiplies by banded matrices; a graph for a backend convolves, which
    takes OpenVINO half the time, if it does as ``_blurred_down`` does.
    """
    window = _window(sigma, spreads).to(x)
    if not (torch.compiler.is_exporting() or torch.jit.is_tracing()):  # type: ignore[attr-defined,no-untyped-call]
        return _banded(window, x.shape[2]) @ x @ _banded(window, x.shape[3]).T
    images = x.flatten(0, 1)
    across = _blurred_down(_blurred_down(images, window).transpose(1, 2), window).transpose(1, 2)
    return across.reshape(x.shape)


def _blurred_down(x: Tensor, window: Tensor) -> Tensor:
    """Return images (B, H, W) blurred along their columns.

    Columns are the channels of the convolution: processors compute sixteen channels at once, and an image has one. What
    the repeated pixels beyond the edges add is added afterwards, since padding them takes longer than the convolution.
    """
    height, width = x.shape[1:]
    half = len(window) // 2
    z = x.transpose(1, 2)[..., None]  # (B, W, H, 1): as channels-last tensors lie in memory, the image itself
    inside = F.conv2d(z, window.view(1, 1, -1, 1).expand(width, 1, -1, 1), padding=(half, 0), groups=width)
    above = F.pad(window.cumsum(0)[:half].flip(0), (0, height - half)).view(1, 1, -1, 1)  # weight of what is beyond
    out = inside + above * z[:, :, :1] + above.flip(2) * z[:, :, -1:]
    return out[..., 0].transpose(1, 2)


def _window(sigma: float, spreads: float) -> Tensor:
    """Return the weights (2 n + 1,) of a Gaussian."""
    half = math.ceil(spreads * sigma)
    window = torch.exp(-torch.arange(-half, half + 1).square() / (2 * sigma**2))
    return window / window.sum()


def _banded(window: Tensor, n: int) -> Tensor:
    """Return the matrix (n, n) that convolves n pixels with a window; the outer ones repeat."""
    at = torch.arange(n, device=window.device)
    steps = torch.arange(len(window), device=window.device) - len(window) // 2
    sources = (at[:, None] + steps).clamp(0, n - 1)
    return window.new_zeros(n, n).scatter_add_(1, sources, window.expand(n, -1))
