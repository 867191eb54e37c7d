"""Flow term: the negative log-likelihood per dimension, mean over the highest positions of the region."""

from __future__ import annotations

import torch
from torch import Tensor

from aeflow.config import UNCHOSEN
from aeflow.model.terms.scored_batch import ScoredBatch


def measure(batch: ScoredBatch) -> Tensor:
    """Return ``mean_top(-(log p(u) + w log |det|) / C)`` of each image and stage, (B, stages)."""
    chosen = batch.settings.log_det_weight
    maps = batch.latent.negative_log_likelihood(batch.prior, UNCHOSEN if chosen is None else chosen)
    share = batch.settings.top_share
    return torch.stack([mean_of_top(batch.region.keep(values), share) for values in maps], dim=1)


def mean_of_top(values: Tensor, share: float) -> Tensor:
    """Return the mean over the highest ``share`` of the values (B, ...) of each image, at least one; (B,)."""
    flat = values.flatten(1)
    highest, _ = torch.topk(flat, max(1, round(share * flat.shape[1])), dim=1)
    return highest.mean(dim=1)
