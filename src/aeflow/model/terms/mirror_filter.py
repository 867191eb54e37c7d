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
from aeflow.model.terms.weighed_positions import WeighedPositions

CHANNELS = slice(-INTENSITIES, None)


class Module(WeighedPositions):
    """``x_p = min_q w (z_p - z'_q - m_p)`` with ``w = (C + C_recapture)^-1 mean(delta)``: a Fisher direction.

    q is the position p of the mirror image z' or one beside it. Signed, and what another exposure or sharpness does
    counts less: its covariance is added to that of the normals.
    """

    mean: Tensor
    weights: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Take descriptions of ``shape`` (D, h, w)."""
        super().__init__((shape[1], shape[2]))
        self.register_buffer("mean", torch.zeros(1, INTENSITIES, *shape[1:]))
        self.register_buffer("weights", torch.zeros(INTENSITIES))

    @classmethod
    def of(cls, settings: Settings, layout: Layout) -> Self:
        """Build for a model of this layout."""
        return cls(layout.shape)

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
        self.weigh(examples)

    @staticmethod
    def _differences(described: Described) -> Tensor:
        return difference(described, CHANNELS)

    def _along(self, values: Tensor) -> Tensor:
        """Return values (B, C, h, w) along the weights, (B, 1, h, w)."""
        return torch.einsum("c,bchw->bhw", self.weights, values)[:, None]
