"""Mirror matched filter: brightness and texture against the other side's, with a sign."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from aeflow.config import Settings
from aeflow.model.described import INTENSITIES, Described
from aeflow.model.terms.base import Layout
from aeflow.model.terms.examples import Examples, covariance, rows_of
from aeflow.model.terms.mirror_difference import difference
from aeflow.model.terms.neighbours import beyond, neighbours
from aeflow.model.terms.scored_batch import ScoredBatch
from aeflow.model.terms.top_mean import top_mean
from aeflow.model.terms.weighed_positions import WeighedPositions

CHANNELS = slice(-INTENSITIES, None)


class Module(WeighedPositions):
    """``x_p = min_q w (z_p - z'_q - m_p)`` with ``w = (C + C_recapture)^-1 mean(delta)``: a Fisher direction.

    q is the position p of the mirror image z' or one beside it. Signed, and what another exposure or sharpness does
    counts less: its covariance is added to that of the normals. The measure takes ``x_p / max(1, s / s_0)``: s is how
    far the sides of the image differ along w on average, s_0 that of normals. Where all of an image differs more, for
    its contrast, noise or a turned head, that proves less; where it differs most is the same, and the map's.
    """

    mean: Tensor
    weights: Tensor
    usual: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Take descriptions of ``shape`` (D, h, w)."""
        super().__init__((shape[1], shape[2]))
        self.register_buffer("mean", torch.zeros(1, INTENSITIES, *shape[1:]))
        self.register_buffer("weights", torch.zeros(INTENSITIES))
        self.register_buffer("usual", torch.ones(()))  # how far the sides of a normal differ

    @classmethod
    def of(cls, settings: Settings, layout: Layout) -> Self:
        """Build for a model of this layout."""
        return cls(layout.shape)

    def forward(self, batch: ScoredBatch) -> Tensor:
        """Return the measure of each image, (B,)."""
        described = batch.needed_description()
        beyond_usual = (self._unlikeness(described) / self.usual).clamp_min(1)
        values = self.raw(described) / beyond_usual[:, None, None]
        return top_mean(self.weighed(values), batch.settings.top_share, batch.weight)

    def raw(self, described: Described) -> Tensor:
        """Return the filter at each position, (B, h, w)."""
        here = self._along(described.z[:, CHANNELS]) - self._along(self.mean)
        there = neighbours(self._along(described.mirrored[:, CHANNELS]))
        return ((here - there)[:, :, 0] + beyond(described.mirrored_weight)).amin(dim=0)

    def fit(self, examples: Examples) -> None:
        """Set mean and weights from normals' differences, synthetic anomalies and recaptures."""
        differences = self._differences(examples.clean)
        self.mean.copy_(differences.mean(dim=0, keepdim=True))
        normal = rows_of(differences - self.mean)[examples.inside]
        scale = normal.std(dim=0) + 1e-8
        mean_delta = (examples.anomaly_changes(CHANNELS) / scale).double().mean(dim=0)
        recapture = examples.recapture_changes(self._differences)
        spread = covariance(normal / scale, recapture / scale)
        self.weights.copy_((torch.linalg.solve(spread, mean_delta) / scale).float())
        self.usual.copy_(self._unlikeness(examples.clean).mean().clamp_min(1e-6))
        self.weigh(examples)

    def _unlikeness(self, described: Described) -> Tensor:
        """Return how far the sides differ along the weights on average, over positions that count on both, (B,)."""
        both = torch.minimum(described.weight, described.mirrored_weight)
        along = self._along(self._differences(described) - self.mean)[:, 0]
        return (both * along.abs()).sum(dim=(1, 2)) / both.sum(dim=(1, 2)).clamp_min(1e-6)

    @staticmethod
    def _differences(described: Described) -> Tensor:
        return difference(described, CHANNELS)

    def _along(self, values: Tensor) -> Tensor:
        """Return values (B, C, h, w) along the weights, (B, 1, h, w)."""
        return torch.einsum("c,bchw->bhw", self.weights, values)[:, None]
