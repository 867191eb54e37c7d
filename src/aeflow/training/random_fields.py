"""Random fields with power-law spectra, the shapes and textures of synthetic anomalies in a region."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def power_law_fields(n: int, side: int, slopes: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Return ``n`` random fields (n, 1, side, side) of mean 0 and spread 1.

    Their amplitude falls as ``(1 + (k / k0)^2)^(-slope / 2)`` with wave number k; the slopes are drawn
    from a range. Scale k0, direction and stretch are random, too.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, generator=generator)

    fy, fx = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    angle, stretch = uniform(0, math.pi), torch.exp(0.5 * torch.randn(n, 1, 1, generator=generator))
    along, across = fx * angle.cos() + fy * angle.sin(), fy * angle.cos() - fx * angle.sin()
    wave = torch.sqrt((along * stretch).square() + (across / stretch).square()) * side
    amplitude = (1 + (wave / torch.exp(uniform(0, math.log(12)))).square()) ** (-uniform(*slopes) / 2)
    amplitude[:, 0, 0] = 0
    noise = torch.fft.rfft2(torch.randn(n, side, side, generator=generator))
    field: Tensor = torch.fft.irfft2(noise * amplitude, s=(side, side))
    field = field - field.mean(dim=(1, 2), keepdim=True)
    field = field / field.std(dim=(1, 2), keepdim=True).clamp_min(1e-9)
    return field[:, None]
