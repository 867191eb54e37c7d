"""Cached features of a list of records, read from disk as batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from mmap import MADV_DONTNEED, mmap
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aeflow.data.records import Record
from aeflow.data.splits import evenly
from aeflow.imageio.image import Acquisition
from aeflow.runtime.cache_limit import Use


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Features, pixels and facts of some images: arrays on disk that are read as they are asked for, or in memory."""

    features: NDArray[Any]  # (n, d)
    pixels: NDArray[np.uint8] | None  # (n, 3, H, W)
    acquisitions: Sequence[Acquisition]
    by: str = ""  # name and version of what computed the features
    files: tuple[mmap, ...] = ()  # that hold the arrays
    use: Use | None = None  # that the limit of the cache respects as long as this is held

    def give_back(self) -> None:
        """Let the system take back the memory of what was read, which it would count as this process's."""
        for file in self.files:
            file.madvise(MADV_DONTNEED)


class Row(NamedTuple):
    """Place of one image: a shard, and the row in it."""

    shard: Shard
    row: int


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
        return [shard.acquisitions[row] for shard, row in self.rows]

    @property
    def by(self) -> list[str]:
        """Names and versions of what computed the features."""
        return sorted({shard.by for shard, _ in self.rows})

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's features and pixels as they are stored."""
        shard = self.rows[0].shard
        pixels = 0 if shard.pixels is None else shard.pixels[0].nbytes
        return int(shard.features[0].nbytes) + pixels

    def batch(self, indices: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Return the features (B, C, h, w) of each stage and the pixels (B, 3, H, W) in [0, 1] of some images."""
        return self.unpacked(*self.stored(indices))

    def stored(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the arrays on disk of some images: features (B, d) float16, and pixels (B, 3, H, W) uint8."""
        rows = [self.rows[i] for i in indices]
        if rows:
            flat = np.stack([shard.features[row] for shard, row in rows])
            pixels = np.stack([shard.pixels[row] for shard, row in rows if shard.pixels is not None])
        else:  # a process's share of a small batch
            shard = self.rows[0].shard
            flat = shard.features[:0].copy()
            pixels = np.zeros(0, np.uint8) if shard.pixels is None else shard.pixels[:0].copy()
        for shard in {id(row.shard): row.shard for row in rows}.values():
            shard.give_back()
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

    def thinned(self, most: int) -> Features:
        """Return at most ``most`` of these, evenly drawn."""
        records, contents = evenly(self.records, most), evenly(self.contents, most)
        return replace(self, records=records, contents=contents, rows=evenly(self.rows, most))

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
        return np.stack([shard.features[row] for shard, row in self.rows] or [np.zeros(width)])[: len(self)].astype(
            float
        )

    def batches(self, batch_size: int) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Yield all images in order, as ``batch`` returns them."""
        for start in range(0, len(self), batch_size):
            yield self.batch(range(start, min(start + batch_size, len(self))))
