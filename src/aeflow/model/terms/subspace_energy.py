"""Base of the terms that measure how unusual positions are in the directions in which anomalies change them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor

from aeflow.config import Settings
from aeflow.model.described import Described
from aeflow.model.terms.base import Layout
from aeflow.model.terms.examples import Examples, lesion_directions, rows_of
from aeflow.model.terms.weighed_positions import WeighedPositions

DIRECTIONS = 16
LEAST = 1e-2  # of an energy, whose mean over normals is about 1: its logarithm falls no further


class SubspaceEnergy(WeighedPositions):
    """``x_p = log |A (v_p - m_p)|^2 / k``: values v, their normal mean m, A (k, C) from ``lesion_directions``."""

    mean: Tensor
    directions: Tensor

    def __init__(self, channels: slice, shape: tuple[int, int, int]) -> None:
        """Take the ``channels`` of descriptions of ``shape`` (D, h, w)."""
        super().__init__((shape[1], shape[2]))
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

    def raw(self, described: Described) -> Tensor:
        """Return the logarithm of each position's energy, (B, h, w)."""
        along = torch.einsum("kc,bchw->bkhw", self.directions, self.values(described) - self.mean)
        return torch.log(along.square().mean(dim=1) + LEAST)

    def fit(self, examples: Examples) -> None:
        """Set mean, directions and weights of positions from normals, recaptures and synthetic anomalies.

        Each channel is measured in the normals' spreads.
        """
        values = self.values(examples.clean)
        self.mean.copy_(values.mean(dim=0, keepdim=True))
        normal = rows_of(values - self.mean)[examples.inside]
        recapture = examples.recapture_changes(self.values)
        deltas = examples.anomaly_changes(self.channels)
        scale = normal.std(dim=0) + 1e-8
        directions = lesion_directions(normal / scale, recapture / scale, deltas / scale, DIRECTIONS)
        self.directions.copy_(directions / scale)
        self.weigh(examples)
