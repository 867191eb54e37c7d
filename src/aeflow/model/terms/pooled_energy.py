"""Pooled energy: how unusual the region's mean features are, as a whole, by quarters, and left against right."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from aeflow.config import Settings
from aeflow.model.terms.base import Layout, TermModule
from aeflow.model.terms.examples import Examples, rows_of, shrunk
from aeflow.model.terms.pooled_filter import pooled_changes
from aeflow.model.terms.region_means import VIEWS, region_means, view_weights
from aeflow.model.terms.scored_batch import ScoredBatch

MEANS = {"region": 1, "quarters": 4, "sides": 1}  # means that each of VIEWS consists of


class Module(TermModule):
    """``log (P - m)' (C + C_recapture)^-1 (P - m)`` of each view's means P of ``z_p - m_p``.

    Directions in which another exposure moves the means count less: their covariance is added to the normals'.
    """

    mean: Tensor

    def __init__(self, channels: slice, shape: tuple[int, int, int]) -> None:
        """Take the ``channels`` of descriptions of ``shape`` (D, h, w)."""
        super().__init__()
        self.channels = channels
        width = len(range(*channels.indices(shape[0])))
        self.register_buffer("mean", torch.zeros(1, width, *shape[1:]))
        for view in VIEWS:
            size = MEANS[view] * width
            self.register_buffer(f"centre_{view}", torch.zeros(size))
            self.register_buffer(f"precision_{view}", torch.zeros(size, size))

    @classmethod
    def of(cls, settings: Settings, layout: Layout) -> Self:
        """Build for a model of this layout."""
        return cls(layout.appearance, layout.shape)

    def forward(self, batch: ScoredBatch) -> Tensor:
        """Return the measure of each image and view, (B, views)."""
        z, weight = self._centred(batch), batch.needed_description().weight
        energies = []
        for view in VIEWS:
            away = region_means(z, view_weights(view, weight)) - self.get_buffer(f"centre_{view}")
            energies.append(((away @ self.get_buffer(f"precision_{view}")) * away).sum(dim=1))
        return torch.log(torch.stack(energies, dim=1).clamp_min(1e-6))

    def map(self, batch: ScoredBatch) -> Tensor:
        """Return each position's share of the whole region's energy, (B, h, w); with the centre's they add up to it."""
        z, weight = self._centred(batch), batch.needed_description().weight
        weights = view_weights("region", weight)
        away = region_means(z, weights) - self.get_buffer("centre_region")
        pull = away @ self.get_buffer("precision_region")
        return weights[0] * torch.einsum("bc,bchw->bhw", pull, z - self.get_buffer("centre_region")[:, None, None])

    def fit(self, examples: Examples) -> None:
        """Set means and precisions from normals and recaptures."""
        self.mean.copy_(examples.mean[:, self.channels])
        scale = rows_of(examples.clean.z[:, self.channels] - self.mean)[examples.inside].std(dim=0) + 1e-8
        for view in VIEWS:
            normal, recapture, _ = pooled_changes(examples, self.channels, self.mean, scale, view)
            spread = shrunk(torch.cov(normal.T.double()) + torch.cov(recapture.T.double()))
            sizes = scale.repeat(MEANS[view])
            self.get_buffer(f"centre_{view}").copy_(normal.mean(dim=0) * sizes)
            self.get_buffer(f"precision_{view}").copy_((torch.linalg.inv(spread) / torch.outer(sizes, sizes)).float())

    def _centred(self, batch: ScoredBatch) -> Tensor:
        return batch.needed_description().z[:, self.channels] - self.mean
