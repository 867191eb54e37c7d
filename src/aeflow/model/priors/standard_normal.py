"""Standard normal prior, the density that AE-FLOW's flow is trained to reach."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LOG_2PI = math.log(2 * math.pi)


class StandardNormal(nn.Module):
    """``log p(u) = -(|u|^2 + C log 2 pi) / 2`` at each position: AE-FLOW's prior."""

    def log_prob(self, u: Tensor) -> Tensor:
        """Return the log-density in nats of ``u`` (B, C, h, w) at each position, (B, h, w); an image's is their sum."""
        return -0.5 * (u.float().square().sum(dim=1) + u.shape[1] * LOG_2PI)

    def log_prob_normal(self, u: Tensor) -> Tensor:
        """Return ``log_prob(u)``: this density knows nothing but what is normal."""
        return self.log_prob(u)

    def sample(self, n: int, shape: tuple[int, int, int], generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` latents of ``shape`` (C, h, w)."""
        return torch.randn(n, *shape, generator=generator)
