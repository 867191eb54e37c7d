"""Batch of images as the terms of the score see it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from aeflow.config import Settings
from aeflow.model.described import Described
from aeflow.model.latent import Latent


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Images with all that terms measure on; what no term of the model needs is None."""

    settings: Settings
    prior: nn.Module
    x: Tensor  # (B, 3, H, W)
    x_hat: Tensor  # (B, 3, H, W)
    latent: Latent | None
    described: Described | None

    @property
    def weight(self) -> Tensor | None:
        """How far each position of the description counts, (B, h, w); None if all of the image does."""
        return None if self.described is None else self.described.weight

    def needed_latent(self) -> Latent:
        """Return the latent that the model's terms were said to need."""
        assert self.latent is not None, "the model has no flow"
        return self.latent

    def needed_description(self) -> Described:
        """Return the description that the model's terms were said to need."""
        assert self.described is not None, "the model describes no positions"
        return self.described
