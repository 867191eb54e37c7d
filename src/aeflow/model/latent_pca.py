"""Gaussian over whole latents, by their principal directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

DIRECTIONS = 64  # principal directions; three hundred images do not determine more


class LatentPCA(nn.Module):
    """``u = mean + sum_i spread_i e_i directions_i`` with ``e ~ N(0, I)``: latents drawn as a whole, not by position.

    A flow trained by likelihood leaves neighbouring positions dependent, so its own prior draws texture without
    anatomy. This is the Gaussian of real latents in their leading principal directions; it generates, it never scores.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, shape: tuple[int, int, int], directions: int = DIRECTIONS) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("directions", torch.zeros(directions, *shape))  # times their spread; zero where not needed

    @torch.no_grad()
    def fit(self, u: Tensor) -> None:
        """Fit mean and leading directions of latents ``u`` (n, C, h, w)."""
        self.mean.copy_(u.mean(dim=0))
        centred = (u - self.mean).flatten(1)
        _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
        kept = min(len(spread), len(self.directions))
        scaled = spread[:kept, None] / math.sqrt(len(u)) * directions[:kept]
        self.directions.zero_()
        self.directions[:kept] = scaled.view(kept, *self.mean.shape)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` latents (n, C, h, w)."""
        noise = torch.randn(n, len(self.directions), generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        drawn: Tensor = self.mean + torch.tensordot(noise, self.directions, dims=1)
        return drawn
