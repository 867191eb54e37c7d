"""Reconstruction term: the distance of an image from its reconstruction."""

from __future__ import annotations

from torch import Tensor

from aeflow.model.ssim import ssim
from aeflow.model.terms.scored_batch import ScoredBatch


def measure(batch: ScoredBatch) -> Tensor:
    """Return ``1 - SSIM(x, x_hat)``, or the mean squared error, of each image, (B,)."""
    if batch.settings.reconstruction == "ssim":
        return 1 - ssim(batch.x, batch.x_hat)
    return (batch.x_hat - batch.x).square().mean(dim=(1, 2, 3))
