"""Described train normals, with synthetic anomalies and recaptures of some, that the terms are fitted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aeflow.model.described import Described

CHANGED = 0.4  # share of change from which a position counts as anomalous
SHRINKAGE = 0.1  # pull of each covariance towards a multiple of the identity


@dataclass(frozen=True, slots=True)
class Examples:
    """What the terms are fitted on; nothing in it is abnormal, and nothing is held out."""

    clean: Described  # (n) train normals
    changed: Described  # (m) images with a synthetic anomaly
    origin: Tensor  # (m,) the row in ``clean`` of the image that each was made from
    change: Tensor  # (m, h, w) in [0, 1]: how much of each position was changed
    recaptured: Described  # (r) images as another positioning, exposure, scanner or export would give them
    recaptured_origin: Tensor  # (r,)

    @property
    def mean(self) -> Tensor:
        """Mean description of each position, (1, D, h, w)."""
        return self.clean.z.mean(dim=0, keepdim=True)

    @property
    def inside(self) -> Tensor:
        """Positions of the normals that count, (n * h * w,)."""
        return (self.clean.weight > 0.5).flatten()

    @property
    def anomalous(self) -> Tensor:
        """Positions of the changed images that were changed, (m * h * w,)."""
        return (self.change > CHANGED).flatten()

    def anomaly_changes(self, channels: slice) -> Tensor:
        """Return by how much the synthetic anomalies change some channels where they are, a row a position, (p, C)."""
        before = self.clean.z[self.origin][:, channels]
        return rows_of(self.changed.z[:, channels] - before)[self.anomalous]

    def recapture_changes(self, values: Callable[[Described], Tensor]) -> Tensor:
        """Return by how much another capture changes maps (B, C, h, w) of a description, where both count.

        A row a position, (p, C).
        """
        before = self.clean.at(self.recaptured_origin)
        both = (before.weight > 0.5) & (self.recaptured.weight > 0.5)
        return rows_of(values(self.recaptured) - values(before))[both.flatten()]


def rows_of(z: Tensor) -> Tensor:
    """Return maps (B, C, h, w) as one row a position, (B * h * w, C)."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])


def covariance(*parts: Tensor) -> Tensor:
    """Return the sum of the covariances (C, C) of rows (n_i, C), as ``shrunk``: of variations that add up."""
    return shrunk(torch.stack([torch.cov(rows.T.double()) for rows in parts]).sum(dim=0))


def shrunk(found: Tensor) -> Tensor:
    """Return a covariance (C, C) pulled by SHRINKAGE towards a multiple of the identity."""
    identity = torch.eye(len(found), dtype=found.dtype, device=found.device)
    pulled: Tensor = (1 - SHRINKAGE) * found + SHRINKAGE * found.diagonal().mean() * identity
    return pulled


def lesion_directions(normal: Tensor, recapture: Tensor, deltas: Tensor, count: int) -> Tensor:
    """Return the directions (count, C) in which anomalies stand out most from what is no anomaly.

    The leading generalised eigenvectors of (mean of ``delta delta'``, covariance of the normals and of what another
    capture changes), scaled so that these have variance 1 along each; ``normal`` (n, C), ``recapture`` (r, C),
    ``deltas`` (m, C).
    """
    whitening = torch.linalg.inv(torch.linalg.cholesky(covariance(normal, recapture)))
    white = deltas.double() @ whitening.T
    _, vectors = torch.linalg.eigh(white.T @ white / len(white))
    directions: Tensor = vectors[:, -count:].T @ whitening
    return directions.float()
