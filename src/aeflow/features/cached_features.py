"""Cached features of a list of records, read from disk as batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aeflow.data.records import Record
from aeflow.imageio.image import Acquisition


class Row(NamedTuple):
    """Place of one image in a shard: the shard's features and pixels, the row in them, and facts of both."""

    features: NDArray[Any]
    pixels: NDArray[np.uint8] | None
    row: int
    acquisition: Acquisition
    by: str = ""  # name and version of what computed the features


@dataclass(frozen=True, slots=True)
class Features:
    """Features and pixels of some records, read from disk as they are asked for."""

    records: list[Record]
    contents: list[str]  # key of each image and view
    rows: list[Row]
    shapes: list[tuple[int, int, int]]  # (C, h, w) of each stage
    given: tuple[int, ...] | None = None  # positions of the stages that batches hold; None: all

    def __len__(self) -> int:
        return len(self.records)

    @property
    def acquisitions(self) -> list[Acquisition]:
        """Acquisition of each image, by its file's header."""
        return [row.acquisition for row in self.rows]

    @property
    def by(self) -> list[str]:
        """Names and versions of what computed the features."""
        return sorted({row.by for row in self.rows})

    def batch(self, indices: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Return the features (B, C, h, w) of each stage and the pixels (B, 3, H, W) in [0, 1] of some images."""
        return self.unpacked(*self.stored(indices))

    def stored(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the arrays on disk of some images: features (B, d) float16, and pixels (B, 3, H, W) uint8."""
        rows = [self.rows[i] for i in indices]
        if not rows:  # a process's share of a small batch
            flat, pixels = self.rows[0].features[:0], self.rows[0].pixels
            return torch.from_numpy(flat.copy()), torch.from_numpy(np.zeros(0) if pixels is None else pixels[:0].copy())
        flat = np.stack([row.features[row.row] for row in rows])
        pixels = np.stack([row.pixels[row.row] for row in rows if row.pixels is not None])
        return torch.from_numpy(flat), torch.from_numpy(pixels)

    def unpacked(self, flat: Tensor, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the arrays of ``stored``, on their present device, in the form of ``batch``."""
        stages = torch.split(flat, [math.prod(shape) for shape in self.shapes], dim=1)
        features = [
            stage.reshape(len(flat), *shape).to(torch.float32, memory_format=torch.channels_last)
            for stage, shape in zip(stages, self.shapes, strict=True)
        ]
        return [features[i] for i in self.given or range(len(features))], pixels.float() / 255

    def only(self, *positions: int) -> Features:
        """Return the same images, with only these stages in their batches, counted from 0."""
        return replace(self, given=positions)

    def and_also(self, others: Sequence[Features]) -> Features:
        """Return these and, after them, other features of the same encoder."""
        parts = [self, *others]
        return Features(
            [record for part in parts for record in part.records],
            [content for part in parts for content in part.contents],
            [row for part in parts for row in part.rows],
            self.shapes,
            self.given,
        )

    def vectors(self) -> NDArray[np.float64]:
        """Return all features of each image in one row, (n, d)."""
        width = sum(math.prod(shape) for shape in self.shapes)
        return np.stack([row.features[row.row] for row in self.rows] or [np.zeros(width)])[: len(self)].astype(float)

    def batches(self, batch_size: int) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Yield all images in order, as ``batch`` returns them."""
        for start in range(0, len(self), batch_size):
            yield self.batch(range(start, min(start + batch_size, len(self))))
