"""Latent of a batch, and its likelihood at each position."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Latent:
    """Latents of a batch, one for each stage, with the log-determinants of the flows that computed them."""

    u: list[Tensor]  # (B, C, h, w)
    log_det: list[Tensor]  # (B, h, w)

    def negative_log_likelihood(self, prior: nn.Module, log_det_weight: float = 1.0) -> list[Tensor]:
        """Return ``-(log p(u | normal) + weight * log |det|) / C`` at each position, (B, h, w) for each stage."""
        return [
            -(prior.log_prob_normal(u) + log_det_weight * log_det) / u.shape[1]  # type: ignore[operator]
            for u, log_det in zip(self.u, self.log_det, strict=True)
        ]
