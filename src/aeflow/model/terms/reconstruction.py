"""Reconstruction term, AE-FLOW's own: the distance of an image from its reconstruction."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.config import Settings
from aeflow.model.ssim import ssim
from aeflow.model.terms.base import Layout, TermModule
from aeflow.model.terms.scored_batch import ScoredBatch


class Module(TermModule):
    """``1 - SSIM(x, x_hat)``, or the mean squared error.

    Its map is the distance from the mean normal image's grey value in each cell: a good decoder reconstructs what is
    abnormal, too, and then the distance from the reconstruction shows nothing.
    """

    mean_image: Tensor

    def __init__(self, size: int, cell: int) -> None:
        super().__init__()
        self.cell = cell  # side of a map's cell in pixels
        self.register_buffer("mean_image", torch.zeros(size // cell, size // cell))

    @classmethod
    def of(cls, settings: Settings, layout: Layout) -> Self:
        """Build for a model of this layout."""
        return cls(settings.image_size, layout.cell)

    def forward(self, batch: ScoredBatch) -> Tensor:
        """Return the measure of each image, (B,)."""
        if batch.settings.reconstruction == "ssim":
            return 1 - ssim(batch.x, batch.x_hat)
        return (batch.x_hat - batch.x).square().mean(dim=(1, 2, 3))

    def map(self, batch: ScoredBatch) -> Tensor:
        """Return ``|grey value - mean normal image's|`` of each cell, (B, h, w)."""
        return (self.cells(batch.x) - self.mean_image).abs()

    def initialise(self, x: Tensor) -> None:
        """Set the mean normal image from images ``x`` (B, 3, H, W)."""
        self.mean_image.copy_(self.cells(x).mean(dim=0))

    def cells(self, x: Tensor) -> Tensor:
        """Return the mean grey value of each cell of images (B, 3, H, W), (B, h, w)."""
        return F.avg_pool2d(x.mean(dim=1, keepdim=True), self.cell)[:, 0]
