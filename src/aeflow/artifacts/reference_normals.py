"""Reference normals: train images to show beside another one, the nearest in the encoder's features.

``normals.safetensors`` in a run folder holds pooled features and small pictures of some train normals, numbered and
without names, so that they can be shown even if the training images are elsewhere. They are still pictures of training
images: delete the file if you may not pass those on. Then an explanation shows no train normals, and an export is
proven on its test images alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from aeflow.artifacts.layout import NORMALS, member
from aeflow.data.splits import evenly
from aeflow.errors import ArtifactError
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.pooling import pool
from aeflow.runtime.checked_tensors import load_checked, save_checked
from aeflow.runtime.folders import current

MAX_NORMALS = 500  # train normals that are kept
SIDE = 96  # pixels of a picture's side
BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class NearNormal:
    """One image of a table, and its distance from another image."""

    number: int  # its row in the table
    distance: float  # Euclidean over pooled features, each in standard deviations over the table
    picture: NDArray[np.float32]  # (SIDE, SIDE) grey in [0, 1]


@dataclass(frozen=True, slots=True)
class ReferenceNormals:
    """A table of images: ``vectors`` (n, D) float32 of ``model.pooling.pool``, ``pictures`` (n, SIDE, SIDE) uint8."""

    vectors: Tensor
    pictures: Tensor

    @classmethod
    def of(cls, features: list[Tensor], x: Tensor) -> Self:
        """Build from feature maps (B, C, h, w) and their images ``x`` (B, 3, H, W) in [0, 1]."""
        grey = x.mean(dim=1, keepdim=True)
        small = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)[:, 0]
        return cls(pool(features).float().cpu(), (255 * small).round().to(torch.uint8).cpu())

    @classmethod
    def of_training(cls, net: AEFlow, normals: Features) -> Self:
        """Build from train normals, as the model sees them, at most MAX_NORMALS of them, evenly chosen."""
        rows = evenly(range(len(normals)), MAX_NORMALS)
        batches = [net.encoded(*normals.batch(rows[start : start + BATCH])) for start in range(0, len(rows), BATCH)]
        parts = [cls.of(net.flow_features(encoded), encoded.x) for encoded in batches]
        return cls(torch.cat([part.vectors for part in parts]), torch.cat([part.pictures for part in parts]))

    def distances(self, s: Tensor) -> Tensor:
        """Return the distances (B, n) of pooled vectors ``s`` (B, D) to every row."""
        std, mean = torch.std_mean(self.vectors, dim=0, correction=0)
        std = std.clamp(
            min=1e-2 * float(std.mean()) + 1e-6
        )  # a feature that hardly varies must not outweigh the others
        return torch.cdist((s - mean) / std, (self.vectors - mean) / std, compute_mode="donot_use_mm_for_euclid_dist")

    def nearest(self, s: Tensor, k: int) -> list[NearNormal]:
        """Return the ``k`` nearest rows of one pooled vector ``s`` (D,), nearest first; all rows if there are fewer."""
        distances, rows = torch.sort(self.distances(s[None])[0], stable=True)
        return [
            NearNormal(row, distance, (self.pictures[row].float() / 255).numpy())
            for row, distance in zip(rows[:k].tolist(), distances[:k].tolist(), strict=True)
        ]

    def usual_distance(self) -> float | None:
        """Return the distance of a row from the nearest other one, the median over all; None if there is no other."""
        if len(self.vectors) < 2:
            return None
        between = self.distances(self.vectors).fill_diagonal_(math.inf)
        return float(between.min(dim=1).values.median())

    def save(self, run: Path) -> None:
        """Write the table into a run folder, whole or not at all."""
        save_checked(run / NORMALS, {"vectors": self.vectors, "pictures": self.pictures}, {})

    @classmethod
    def load(cls, run: Path, width: int) -> Self | None:
        """Load the table of a run folder, of pooled vectors of ``width``; None if it holds none.

        Raises ArtifactError if the file is damaged or of another model.
        """
        path = current(run) / NORMALS
        if not path.exists():
            return None
        remedy = "delete it to go on without neighbours, or train again"
        try:
            found, _ = load_checked(member(run, NORMALS, remedy))
            table = cls(**found)
        except (SafetensorError, TypeError, ValueError, OSError) as error:
            raise ArtifactError(path, f"damaged ({type(error).__name__})", remedy) from error
        n = len(table.vectors)
        if n == 0 or table.vectors.shape != (n, width) or table.pictures.shape != (n, SIDE, SIDE):
            raise ArtifactError(path, "belongs to another model", remedy)
        if (table.vectors.dtype, table.pictures.dtype) != (torch.float32, torch.uint8) or table.vectors.isnan().any():
            raise ArtifactError(path, "holds something else than float32 vectors and uint8 pictures", remedy)
        return table
