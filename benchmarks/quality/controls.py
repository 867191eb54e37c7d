"""Controls without a flow, on the same features of the same train normals: Gaussians and nearest neighbours.

Each is fitted on the kept train normals and gives a function of cached features (B, C, h, w) of each stage and pixels
(B, 3, H, W). Controls that need training of their own are in ``trained_controls.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from aeflow.config import Settings
from aeflow.data.records import Record
from aeflow.features.cached_features import Features
from aeflow.metrics.image import auroc
from aeflow.model.pooling import pool, unit_length
from benchmarks.inputs import labels_of

BATCH = 16


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores (B,), higher for more abnormal, and maps (B, h, w) if the method has them."""

    scores: Tensor
    maps: Tensor | None = None


Judge = Callable[[list[Tensor], Tensor], dict[str, Judged]]  # by the ending of the row's name


@dataclass(frozen=True, slots=True)
class Normals:
    """Train normals that a control is fitted on, as the flow is, and those held out from it."""

    views: list[Features]  # as they are, then augmented
    held: Features
    settings: Settings  # of the features, the split and the seed

    @property
    def kept(self) -> Features:
        """Return the features of the images as they are."""
        return self.views[0]


def gaussian(normals: Normals, at: list[int], shrinkage: float, unit: bool = False) -> Judge:
    """Score by the mean squared Mahalanobis distance over positions: PaDiM (Defard et al. 2021) with all channels.

    The covariance is pulled towards a multiple of the identity by a share that was not tuned.
    """
    [stage] = at

    def positions(features: list[Tensor]) -> Tensor:
        z = unit_length(features[stage]) if unit else features[stage]
        return z.flatten(2).permute(2, 0, 1).double()  # (P, B, C)

    z = torch.cat([positions(features) for features, _ in normals.kept.batches(BATCH)], dim=1)
    mean = z.mean(dim=1, keepdim=True)
    covariance = (z - mean).transpose(1, 2) @ (z - mean) / z.shape[1]
    size = covariance.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
    covariance = (1 - shrinkage) * covariance + shrinkage * size * torch.eye(z.shape[2], dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance)

    def judge(features: list[Tensor], _: Tensor) -> dict[str, Judged]:
        away = (positions(features) - mean).transpose(1, 2)  # (P, C, B)
        distance = torch.linalg.solve_triangular(factor, away, upper=False).square().mean(dim=1).T  # (B, P)
        return {"": Judged(distance.mean(dim=1), distance.reshape(-1, *features[stage].shape[2:]))}

    return judge


def nearest_vectors(normals: Normals, at: list[int], neighbours: int) -> Judge:
    """Score by the mean distance of pooled features, in standard deviations, to the nearest train normals."""

    def vectors(features: list[Tensor]) -> Tensor:
        return pool([features[stage] for stage in at])

    train = torch.cat([vectors(features) for features, _ in normals.kept.batches(BATCH)])
    mean, std = train.mean(dim=0), train.std(dim=0).clamp_min(1e-6)
    found = NearestNeighbors(n_neighbors=neighbours).fit(((train - mean) / std).numpy())

    def judge(features: list[Tensor], _: Tensor) -> dict[str, Judged]:
        distances, _rows = found.kneighbors(((vectors(features) - mean) / std).numpy())
        return {"": Judged(torch.from_numpy(distances.mean(axis=1)))}

    return judge


def nearest_patches(normals: Normals, at: list[int], bank: int, average: int) -> Judge:
    """Score by the largest distance of a patch to the nearest of some train patches: PatchCore (Roth et al. 2022).

    Neighbouring features are averaged as there; the bank is drawn at random, not as a coreset.
    """
    [stage] = at

    def patches(features: list[Tensor]) -> Tensor:
        z = F.avg_pool2d(features[stage], average, stride=1, padding=average // 2)
        return z.flatten(2).transpose(1, 2)  # (B, P, C)

    generator = torch.Generator().manual_seed(normals.settings.seed)
    each = -(-bank // len(normals.kept))  # patches an image, so that the whole need not be in memory
    drawn = []
    for features, _ in normals.kept.batches(BATCH):
        for of_image in patches(features):
            drawn.append(of_image[torch.randperm(len(of_image), generator=generator)[:each]])
    known = torch.cat(drawn)
    known = known[torch.randperm(len(known), generator=generator)[:bank]]

    def judge(features: list[Tensor], _: Tensor) -> dict[str, Judged]:
        z = patches(features)
        distance = torch.stack([torch.cdist(of_image, known).amin(dim=1) for of_image in z])  # (B, P)
        return {"": Judged(distance.amax(dim=1), distance.reshape(-1, *features[stage].shape[2:]))}

    return judge


def intensity(_: Normals) -> Judge:
    """Take the image itself for its map: tumours are bright in FLAIR."""

    def judge(_: list[Tensor], x: Tensor) -> dict[str, Judged]:
        return {"": Judged(x.mean(dim=(1, 2, 3)), x.mean(dim=1))}

    return judge


def file_sizes(test: list[Record]) -> list[float]:
    """Return the bytes of each file, in whichever direction is right more often: a control that is helped."""
    sizes, labels = [float(record.path.stat().st_size) for record in test], labels_of(test)
    return sizes if auroc(sizes, labels) > 0.5 else [-size for size in sizes]


def all_abnormal(labels: list[int]) -> dict[str, Any]:
    """Return F1 and accuracy of calling everything abnormal."""
    hits, n = sum(labels), len(labels)
    return {"f1": {"value": 2 * hits / (hits + n)}, "accuracy": {"value": hits / n}}
