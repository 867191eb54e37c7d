"""Pooled matched filter: brightness and texture of the whole region, with a sign."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from aeflow.config import Settings
from aeflow.model.described import INTENSITIES
from aeflow.model.terms.base import Layout, TermModule
from aeflow.model.terms.examples import Examples, rows_of, shrunk
from aeflow.model.terms.region_means import region_means, view_weights
from aeflow.model.terms.scored_batch import ScoredBatch

CHANNELS = slice(-INTENSITIES, None)


class Module(TermModule):
    """``w (P - m)``: P the region's mean of ``z_p - m_p``; ``w = (C + C_recapture)^-1 mean(delta P)``.

    Signed, and blind to what another exposure or sharpness does: their covariance is added to the normals'.
    """

    mean: Tensor
    weights: Tensor
    centre: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Take descriptions of ``shape`` (D, h, w)."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, INTENSITIES, *shape[1:]))
        self.register_buffer("weights", torch.zeros(INTENSITIES))
        self.register_buffer("centre", torch.zeros(()))  # of the normals' measures

    @classmethod
    def of(cls, settings: Settings, layout: Layout) -> Self:
        """Build for a model of this layout."""
        return cls(layout.shape)

    def forward(self, batch: ScoredBatch) -> Tensor:
        """Return the measure of each image, (B,)."""
        return self.map(batch).sum(dim=(1, 2)) - self.centre

    def map(self, batch: ScoredBatch) -> Tensor:
        """Return each position's share of the measure, (B, h, w); they add up to it."""
        described = batch.needed_description()
        [share] = view_weights("region", described.weight)
        return share * torch.einsum("c,bchw->bhw", self.weights, described.z[:, CHANNELS] - self.mean)

    def fit(self, examples: Examples) -> None:
        """Set mean and weights from normals, synthetic anomalies and recaptures."""
        self.mean.copy_(examples.mean[:, CHANNELS])
        scale = rows_of(examples.clean.z[:, CHANNELS] - self.mean)[examples.inside].std(dim=0) + 1e-8
        normal, recapture, delta = pooled_changes(examples, CHANNELS, self.mean, scale, "region")
        spread = shrunk(torch.cov(normal.T.double()) + torch.cov(recapture.T.double()))
        self.weights.copy_((torch.linalg.solve(spread, delta.double().mean(dim=0)) / scale).float())
        self.centre.copy_(normal.mean(dim=0) * scale @ self.weights)


def pooled_changes(
    examples: Examples, channels: slice, mean: Tensor, scale: Tensor, view: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the means of a view in standard deviations: of normals, and the changes by recapture and anomalies.

    ``mean`` (1, C, h, w), ``scale`` (C,); (n, k C), (r, k C) and (m, k C) for a view of k means.
    """

    def means(z: Tensor, weight: Tensor) -> Tensor:
        centred = (z[:, channels] - mean) / scale[None, :, None, None]
        return region_means(centred, view_weights(view, weight))

    normal = means(examples.clean.z, examples.clean.weight)
    recaptured = means(examples.recaptured.z, examples.recaptured.weight)
    changed = means(examples.changed.z, examples.changed.weight)
    return normal, recaptured - normal[examples.recaptured_origin], changed - normal[examples.origin]
