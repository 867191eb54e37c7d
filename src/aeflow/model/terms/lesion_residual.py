"""Lesion-subspace residual: how far a position is from normal, in the directions in which anomalies change it."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from aeflow.config import Settings
from aeflow.model.terms.base import Layout, TermModule
from aeflow.model.terms.examples import Examples, lesion_directions, rows_of
from aeflow.model.terms.scored_batch import ScoredBatch
from aeflow.model.terms.top_mean import top_mean

DIRECTIONS = 16


class Module(TermModule):
    """``log mean_top |A (z_p - m_p)|^2 / k``: A (k, C) from ``lesion_directions``, m_p the normals' mean there."""

    mean: Tensor
    directions: Tensor

    def __init__(self, channels: slice, shape: tuple[int, int, int]) -> None:
        """Take the ``channels`` of descriptions of ``shape`` (D, h, w)."""
        super().__init__()
        self.channels = channels
        width = len(range(*channels.indices(shape[0])))
        self.register_buffer("mean", torch.zeros(1, width, *shape[1:]))
        self.register_buffer("directions", torch.zeros(DIRECTIONS, width))

    @classmethod
    def of(cls, settings: Settings, layout: Layout) -> Self:
        """Build for a model of this layout."""
        return cls(layout.deep, layout.shape)

    def forward(self, batch: ScoredBatch) -> Tensor:
        """Return the measure of each image, (B,)."""
        return torch.log(top_mean(self._energy(batch), batch.settings.top_share, batch.weight) + 1e-6)

    def map(self, batch: ScoredBatch) -> Tensor:
        """Return the logarithm of each position's energy, (B, h, w)."""
        return torch.log(self._energy(batch) + 1e-2)

    def fit(self, examples: Examples) -> None:
        """Set mean and directions from normals and synthetic anomalies."""
        self.mean.copy_(examples.mean[:, self.channels])
        normal = rows_of(examples.clean.z[:, self.channels] - self.mean)[examples.inside]
        deltas = rows_of(examples.changed.z[:, self.channels] - examples.clean.z[examples.origin][:, self.channels])
        self.directions.copy_(scaled_directions(normal, deltas[examples.anomalous]))

    def _energy(self, batch: ScoredBatch) -> Tensor:
        return energy(batch.needed_description().z[:, self.channels] - self.mean, self.directions)


def energy(z: Tensor, directions: Tensor) -> Tensor:
    """Return ``|A z|^2 / k`` at each position of ``z`` (B, C, h, w), (B, h, w)."""
    return torch.einsum("kc,bchw->bkhw", directions, z).square().mean(dim=1)


def scaled_directions(normal: Tensor, deltas: Tensor) -> Tensor:
    """Return ``lesion_directions`` (k, C) found with each channel in standard deviations of the normals."""
    scale = normal.std(dim=0) + 1e-8
    return lesion_directions(normal / scale, deltas / scale, DIRECTIONS) / scale
