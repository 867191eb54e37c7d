"""Batch of images as the terms of the score see it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from aeflow.config import Settings
from aeflow.model.latent import Latent
from aeflow.model.regions.whole_image import Region


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Images with their latents and reconstructions, and the settings, prior and region of the model."""

    settings: Settings
    prior: nn.Module
    region: Region
    latent: Latent
    x: Tensor  # (B, 3, H, W)
    x_hat: Tensor  # (B, 3, H, W)
