"""Flow term, AE-FLOW's own: the negative log-likelihood per dimension, mean over the highest positions."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from aeflow.config import UNCHOSEN, Settings
from aeflow.model.resizing import averaged, bilinear
from aeflow.model.terms.base import Layout, TermModule
from aeflow.model.terms.scored_batch import ScoredBatch
from aeflow.model.terms.top_mean import top_mean


class Module(TermModule):
    """``mean_top(-(log p(u) + w log |det|) / C)`` of each stage."""

    @classmethod
    def of(cls, settings: Settings, layout: Layout) -> Self:
        """Build for a model of this layout."""
        return cls()

    def forward(self, batch: ScoredBatch) -> Tensor:
        """Return the measure of each image and stage, (B, stages)."""
        return measure_at(batch, weight_of(batch.settings), batch.settings.top_share)

    def map(self, batch: ScoredBatch) -> Tensor:
        """Return what the measure is the highest mean of, mean over stages at the finest one's size.

        On the whole image, where maps were so scaled from the first release on, it is the whole likelihood.
        """
        weight = weight_of(batch.settings) if batch.settings.describes else 1.0
        maps = batch.needed_latent().negative_log_likelihood(batch.prior, weight)
        return torch.stack([bilinear(m, maps[0].shape[-2:]) for m in maps]).mean(dim=0)


def weight_of(settings: Settings) -> float:
    """Return the weight w of the log-determinant."""
    return UNCHOSEN if settings.log_det_weight is None else settings.log_det_weight


def measure_at(batch: ScoredBatch, log_det_weight: float, share: float) -> Tensor:
    """Return the measure with another weight of the log-determinant and share of positions, (B, stages)."""
    maps = batch.needed_latent().negative_log_likelihood(batch.prior, log_det_weight)
    weights = [None if batch.weight is None else averaged(batch.weight, values.shape[1:]) for values in maps]
    found = [top_mean(values, share, weight) for values, weight in zip(maps, weights, strict=True)]
    return torch.stack(found, dim=1)
