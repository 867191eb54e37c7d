"""Base of the terms that take the highest positions, each measured against how much normals vary there."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from aeflow.model.described import Described
from aeflow.model.terms.base import TermModule
from aeflow.model.terms.examples import Examples
from aeflow.model.terms.neighbours import neighbours
from aeflow.model.terms.scored_batch import ScoredBatch
from aeflow.model.terms.top_mean import top_mean

PRIOR_NORMALS = 30  # normals that the variance of all positions counts for beside those seen at a position


class WeighedPositions(TermModule):
    """``mean_top (x_p - level) / v_p``: raw values x, v_p their variance over normals at p by that of all positions.

    For a shift of the same size anywhere, this is the log-likelihood ratio of shifted to normal up to a factor. Where
    markers, arms or a collimator's edge come and go among normals, v_p is large, and a high value says little.
    """

    level: Tensor
    variance: Tensor

    def __init__(self, side: tuple[int, int]) -> None:
        """Take maps of ``side`` (h, w) positions."""
        super().__init__()
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("variance", torch.ones(side))

    @abstractmethod
    def raw(self, described: Described) -> Tensor:
        """Return the value of each position, (B, h, w); higher is more abnormal."""

    def forward(self, batch: ScoredBatch) -> Tensor:
        """Return the measure of each image, (B,)."""
        return top_mean(self.map(batch), batch.settings.top_share, batch.weight)

    def map(self, batch: ScoredBatch) -> Tensor:
        """Return what the measure is the highest mean of, (B, h, w)."""
        return self.weighed(self.raw(batch.needed_description()))

    def weighed(self, values: Tensor) -> Tensor:
        """Return raw values (B, h, w) above their level, over how much normals vary there."""
        return (values - self.level) / self.variance

    def weigh(self, examples: Examples) -> None:
        """Set level and variances from the normals' raw values; last, since these follow from all else."""
        values, weight = self.raw(examples.clean), examples.clean.weight
        self.level.copy_(mean_of(values, weight))
        self.variance.copy_(relative_variance(values, weight))


def mean_of(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of values, each weighted by ``weight`` in [0, 1]; 0 if none counts."""
    return (weight * values).sum() / weight.sum().clamp_min(1e-6)


def relative_variance(values: Tensor, weight: Tensor) -> Tensor:
    """Return the variance of maps (n, h, w) at each position over that of all positions, (h, w).

    ``weight`` (n, h, w) in [0, 1] says how far each counts. A position's moments are those of it and the eight around
    it, and PRIOR_NORMALS images with the moments of all positions count beside them, so it is defined where none is.
    """

    def around(summed: Tensor) -> Tensor:
        return neighbours(summed[None, None]).mean(dim=0)[0, 0]

    level = mean_of(values, weight)
    overall = mean_of((values - level).square(), weight)
    count = around(weight.sum(dim=0)) + PRIOR_NORMALS
    mean = (around((weight * values).sum(dim=0)) + PRIOR_NORMALS * level) / count
    squares = around((weight * (values - mean).square()).sum(dim=0)) + PRIOR_NORMALS * overall
    return squares / count / overall.clamp_min(1e-12)
