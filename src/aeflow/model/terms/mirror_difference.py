"""Mirror difference: how far a position is from its mirror image's, beyond what normals differ."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from aeflow.config import Settings
from aeflow.model.described import Described
from aeflow.model.terms.base import Layout, TermModule
from aeflow.model.terms.examples import Examples, rows_of
from aeflow.model.terms.lesion_residual import DIRECTIONS, energy, scaled_directions
from aeflow.model.terms.scored_batch import ScoredBatch
from aeflow.model.terms.top_mean import top_mean


class Module(TermModule):
    """``log mean_top |A (z_p - z'_p - m_p)|^2 / k``, z' of the mirrored image; no registration of the sides.

    What moves both sides alike, as another exposure or age does, cancels.
    """

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
        """Set mean and directions from normals' differences and synthetic anomalies."""
        differences = difference(examples.clean, self.channels)
        self.mean.copy_(differences.mean(dim=0, keepdim=True))
        normal = rows_of(differences - self.mean)[examples.inside]
        deltas = rows_of(examples.changed.z[:, self.channels] - examples.clean.z[examples.origin][:, self.channels])
        self.directions.copy_(scaled_directions(normal, deltas[examples.anomalous]))

    def _energy(self, batch: ScoredBatch) -> Tensor:
        return energy(difference(batch.needed_description(), self.channels) - self.mean, self.directions)


def difference(described: Described, channels: slice) -> Tensor:
    """Return ``z - z'`` of some channels, (B, C, h, w)."""
    return described.z[:, channels] - described.mirrored[:, channels]
