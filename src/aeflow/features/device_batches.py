"""Batches of cached features on the device that learns from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from aeflow.features.cached_features import Features
from aeflow.runtime.device import has_room, moved

IMAGES_AT_ONCE = 256  # images that are read from disk together when all are copied to the device


class Feed:
    """Batches of ``features`` on ``device``: all held there if there is room, else copied one at a time.

    Features travel as float16 and pixels as uint8; both become float32 on the device. ``hold`` overrules ``has_room``.
    """

    def __init__(self, features: Features, device: torch.device, hold: bool | None = None) -> None:
        self.features, self.device = features, device
        self.held: tuple[Tensor, Tensor] | None = None
        if len(features) and (has_room(features.image_bytes * len(features), device) if hold is None else hold):
            self.held = self._held()

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, indices: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """Return the batch of ``Features.batch``, on the device."""
        if self.held is None:
            flat, pixels = (moved(x, self.device) for x in self.features.stored(indices))
        else:
            rows = moved(torch.tensor(indices), self.device)
            flat, pixels = (x.index_select(0, rows) for x in self.held)
        return self.features.unpacked(flat, pixels)

    def batches(self, batch_size: int, order: Sequence[int] | None = None) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Yield all images in ``order``, or as they are."""
        order = range(len(self)) if order is None else order
        for start in range(0, len(order), batch_size):
            yield self.batch(order[start : start + batch_size])

    def _held(self) -> tuple[Tensor, Tensor]:
        """Copy all images to the device, as they are stored."""
        n = len(self)
        first, picture = self.features.stored([0])
        flat = torch.empty((n, *first.shape[1:]), dtype=first.dtype, device=self.device)
        pixels = torch.empty((n, *picture.shape[1:]), dtype=picture.dtype, device=self.device)
        for start in range(0, n, IMAGES_AT_ONCE):
            part = slice(start, min(start + IMAGES_AT_ONCE, n))
            flat[part], pixels[part] = (moved(x, self.device) for x in self.features.stored(range(n)[part]))
        return flat, pixels
