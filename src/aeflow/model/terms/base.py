"""Base of the terms of the score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from aeflow.config import Settings
from aeflow.model.described import INTENSITIES
from aeflow.model.terms.examples import Examples
from aeflow.model.terms.scored_batch import ScoredBatch


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of a model that its terms are built for."""

    channels: tuple[int, ...]  # of each of the encoder's stages that describe a position; empty if none does
    side: int  # positions a side of a description
    cell: int  # side in pixels of a cell of the flows' finest stage

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (D, h, w) of a description."""
        return (sum(self.channels) + INTENSITIES, self.side, self.side)

    @property
    def appearance(self) -> slice:
        """The encoder's channels of a description."""
        return slice(0, -INTENSITIES)

    @property
    def deep(self) -> slice:
        """The encoder's channels without those of the finest stage, which see edges more than tissue."""
        return slice(self.channels[0], -INTENSITIES)


class TermModule(nn.Module, ABC):
    """Term of the score as a module: its raw measure of each image, and its part of each position.

    ``map_mean`` and ``map_std`` are those of its map over held-out normals, by which the anomaly map adds it to others.
    """

    map_mean: Tensor
    map_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("map_mean", torch.zeros(()))
        self.register_buffer("map_std", torch.ones(()))

    @classmethod
    @abstractmethod
    def of(cls, settings: Settings, layout: Layout) -> Self:
        """Build for a model of this layout."""

    @abstractmethod
    def forward(self, batch: ScoredBatch) -> Tensor:
        """Return the raw measure of each image, (B,) or (B, columns); higher is more abnormal."""

    @abstractmethod
    def map(self, batch: ScoredBatch) -> Tensor:
        """Return each position's part, (B, h, w) of any size."""

    def fit(self, examples: Examples) -> None:
        """Set the term's parameters from described train normals and synthetic anomalies of them."""

    def standardised_map(self, batch: ScoredBatch) -> Tensor:
        """Return the map in standard deviations of held-out normals' positions."""
        return (self.map(batch) - self.map_mean) / self.map_std
