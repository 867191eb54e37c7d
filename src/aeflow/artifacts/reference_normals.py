"""Normal images to lay beside another one: the nearest in what the encoder sees.

``normals.safetensors`` in a run folder holds pooled features and small pictures of some train normals, numbered and
without names, so that they can be shown where the training images are not. They are pictures of training images all
the same: whoever may not pass those on deletes the file. Nothing but the neighbours is lost with it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aeflow.data.splits import evenly
from aeflow.errors import ArtifactError
from aeflow.features.dataset import Features
from aeflow.model.pooling import pool

NORMALS = "normals.safetensors"
MAX_NORMALS = 500  # train normals that are kept
SIDE = 96  # pixels of a picture's side
BATCH = 32


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One image of a table, and how far away it is."""

    number: int  # its row
    distance: float  # Euclidean over pooled features, each in standard deviations of the table's
    picture: NDArray[np.float32]  # (SIDE, SIDE) grey in [0, 1]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A table of images: ``vectors`` (n, D) float32 of ``model.pooled.pool``, ``pictures`` (n, SIDE, SIDE) uint8."""

    vectors: Tensor
    pictures: Tensor

    @classmethod
    def of(cls, features: list[Tensor], x: Tensor) -> Self:
        """Of feature maps (B, C, h, w) and their images ``x`` (B, 3, H, W) in [0, 1]."""
        grey = x.mean(dim=1, keepdim=True)
        small = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)[:, 0]
        return cls(pool(features).float().cpu(), (255 * small).round().to(torch.uint8).cpu())

    @classmethod
    def of_training(cls, normals: Features) -> Self:
        """Of train normals, at most MAX_NORMALS of them, evenly chosen."""
        rows = evenly(range(len(normals)), MAX_NORMALS)
        parts = [cls.of(*normals.batch(rows[start : start + BATCH])) for start in range(0, len(rows), BATCH)]
        return cls(torch.cat([part.vectors for part in parts]), torch.cat([part.pictures for part in parts]))

    def distances(self, s: Tensor) -> Tensor:
        """Distances (B, n) of pooled vectors ``s`` (B, D) to every row."""
        std, mean = torch.std_mean(self.vectors, dim=0, correction=0)
        std = std.clamp(min=1e-2 * float(std.mean()) + 1e-6)  # what hardly varies here must not outweigh all else
        return torch.cdist((s - mean) / std, (self.vectors - mean) / std, compute_mode="donot_use_mm_for_euclid_dist")

    def nearest(self, s: Tensor, k: int) -> list[Neighbour]:
        """The ``k`` nearest rows of one pooled vector ``s`` (D,), nearest first; fewer where the table is shorter."""
        distances, rows = torch.sort(self.distances(s[None])[0], stable=True)
        return [
            Neighbour(row, distance, (self.pictures[row].float() / 255).numpy())
            for row, distance in zip(rows[:k].tolist(), distances[:k].tolist(), strict=True)
        ]

    def save(self, run: Path) -> None:
        """Write the table into a run folder, whole or not at all."""
        temporary = run / f"{NORMALS}.part"
        save_file({"vectors": self.vectors, "pictures": self.pictures}, temporary)
        os.replace(temporary, run / NORMALS)

    @classmethod
    def load(cls, run: Path, width: int) -> Self | None:
        """The table of a run folder, of pooled vectors of ``width``; None where it holds none.

        Raises ArtifactError where the file is damaged or of another model.
        """
        path = run / NORMALS
        if not path.exists():
            return None
        remedy = "delete it to go on without neighbours, or train again"
        try:
            found = load_file(path)
            table = cls(found["vectors"].float(), found["pictures"])
        except (SafetensorError, KeyError, OSError) as error:
            raise ArtifactError(path, f"damaged ({type(error).__name__})", remedy) from error
        n = len(table.vectors)
        if n == 0 or table.vectors.shape != (n, width) or table.pictures.shape != (n, SIDE, SIDE):
            raise ArtifactError(path, "belongs to another model", remedy)
        return table
