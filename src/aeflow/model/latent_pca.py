"""Gaussian over whole codes, what the decoder reads, by their principal directions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

TINY = 1e-6  # least variance beside the directions: unused ones are zero
DIRECTIONS = 64  # principal directions; three hundred images do not determine more


class LatentPCA(nn.Module):
    """``u = mean + sum_i spread_i e_i directions_i`` with ``e ~ N(0, I)``: codes drawn as a whole, not by position.

    A flow trained by likelihood leaves neighbouring positions dependent, so its own prior draws texture without
    anatomy. This is the Gaussian of real codes in their leading principal directions; it generates, it never scores.
    A code is a list of maps (B, C, h, w), kept side by side; one map alone keeps its shape.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, shapes: Sequence[tuple[int, ...]], directions: int = DIRECTIONS) -> None:
        super().__init__()
        self.shapes = list(shapes)
        shape = self.shapes[0] if len(self.shapes) == 1 else (sum(map(math.prod, self.shapes)),)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("directions", torch.zeros(directions, *shape))  # times their spread; zero where not needed

    @torch.no_grad()
    def fit(self, code: Sequence[Tensor]) -> None:
        """Fit mean and leading directions of codes, (n, C, h, w) each."""
        u = self._joined(code)
        self.mean.copy_(u.mean(dim=0))
        centred = (u - self.mean).flatten(1)
        _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
        kept = min(len(spread), len(self.directions))
        scaled = spread[:kept, None] / math.sqrt(len(u)) * directions[:kept]
        self.directions.zero_()
        self.directions[:kept] = scaled.view(kept, *self.mean.shape)

    def sample(self, n: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Draw ``n`` codes, (n, C, h, w) each."""
        noise = torch.randn(n, len(self.directions), generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self._parts(self.mean + torch.tensordot(noise, self.directions, dims=1))

    def nearest(self, code: Sequence[Tensor]) -> list[Tensor]:
        """Return the nearest codes in the span of the directions, each coordinate within two spreads of the mean."""
        centred = (self._joined(code) - self.mean).flatten(1)
        directions = self.directions.flatten(1)
        lengths = directions.square().sum(dim=1).clamp_min(1e-12)
        coordinates = (centred @ directions.T / lengths).clamp(-2, 2)
        found = self.mean.flatten() + coordinates @ directions
        return self._parts(found.view(len(found), *self.mean.shape))

    @property
    def mean_code(self) -> list[Tensor]:
        """The mean code, (1, C, h, w) each."""
        return self._parts(self.mean[None])

    def completed(self, known: Tensor, at: int) -> list[Tensor]:
        """Return codes whose map ``at`` is ``known`` (B, C, h, w), and the others their means given it.

        ``E(e | known) = (D D^T + s^2 I)^-1 D (known - mean)`` with ``D`` (k, d) the directions of that map. The
        variance beside them, ``s^2`` (Tipping and Bishop 1999), is what they leave of each ``known`` per dimension.
        """
        directions = self._parts(self.directions)
        own = directions[at].flatten(1)
        centred = (known - self.mean_code[at]).flatten(1)
        left = centred - centred @ torch.linalg.pinv(own) @ own
        noise = (left.square().sum(dim=1) / max(1, own.shape[1] - len(own))).clamp_min(TINY)
        gram = own @ own.T + noise[:, None, None] * torch.eye(len(own), dtype=own.dtype, device=own.device)
        coordinates = torch.linalg.solve(gram, (centred @ own.T)[:, :, None])[:, :, 0]
        parts = [
            mean + torch.tensordot(coordinates, direction, dims=1)
            for mean, direction in zip(self.mean_code, directions, strict=True)
        ]
        parts[at] = known
        return parts

    def _joined(self, code: Sequence[Tensor]) -> Tensor:
        return code[0] if len(self.shapes) == 1 else torch.cat([part.flatten(1) for part in code], dim=1)

    def _parts(self, u: Tensor) -> list[Tensor]:
        flat = torch.split(u.flatten(1), [math.prod(shape) for shape in self.shapes], dim=1)
        return [part.view(len(u), *shape) for part, shape in zip(flat, self.shapes, strict=True)]
