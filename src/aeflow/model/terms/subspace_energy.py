"""Base of the terms that measure how unusual positions are in the directions in which anomalies change them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor

from aeflow.config import Settings
from aeflow.model.described import Described
from aeflow.model.terms.base import Layout, TermModule
from aeflow.model.terms.examples import Examples, lesion_directions, rows_of
from aeflow.model.terms.scored_batch import ScoredBatch
from aeflow.model.terms.top_mean import top_mean

DIRECTIONS = 16


class SubspaceEnergy(TermModule):
    """``log mean_top |A (v_p - m_p)|^2 / k``: values v, their normal mean m, A (k, C) from ``lesion_directions``."""

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

    @abstractmethod
    def values(self, described: Described) -> Tensor:
        """Return what is measured at each position, (B, C, h, w)."""

    def forward(self, batch: ScoredBatch) -> Tensor:
        """Return the measure of each image, (B,)."""
        return torch.log(top_mean(self._energy(batch), batch.settings.top_share, batch.weight) + 1e-6)

    def map(self, batch: ScoredBatch) -> Tensor:
        """Return the logarithm of each position's energy, (B, h, w)."""
        return torch.log(self._energy(batch) + 1e-2)

    def fit(self, examples: Examples) -> None:
        """Set mean and directions from normals, recaptures and synthetic anomalies.

        Each channel is measured in the normals' spreads.
        """
        values = self.values(examples.clean)
        self.mean.copy_(values.mean(dim=0, keepdim=True))
        normal = rows_of(values - self.mean)[examples.inside]
        before = examples.clean.at(examples.recaptured_origin)
        recapture = rows_of(self.values(examples.recaptured) - self.values(before))[(before.weight > 0.5).flatten()]
        deltas = rows_of(examples.changed.z[:, self.channels] - examples.clean.z[examples.origin][:, self.channels])
        scale = normal.std(dim=0) + 1e-8
        directions = lesion_directions(
            normal / scale, recapture / scale, deltas[examples.anomalous] / scale, DIRECTIONS
        )
        self.directions.copy_(directions / scale)

    def _energy(self, batch: ScoredBatch) -> Tensor:
        centred = self.values(batch.needed_description()) - self.mean
        return torch.einsum("kc,bchw->bkhw", self.directions, centred).square().mean(dim=1)
