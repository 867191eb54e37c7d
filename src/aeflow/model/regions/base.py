"""Interface of a region: how far each pixel of an image counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from aeflow.model.encoder import Encoder


class Region(nn.Module, ABC):
    """Choice of the pixels that score and maps look at."""

    beside: ClassVar[bool]  # if there is tissue beside the region, which serves as a reference of brightness
    boxed: ClassVar[bool]  # if images are seen in the box around the region

    @abstractmethod
    def forward(self, x: Tensor, encoder: Encoder) -> Tensor:
        """Return how far each pixel of images ``x`` (B, 3, H, W) in [0, 1] counts: (B, 1, H, W) in [0, 1].

        ``encoder`` gives the features of its stages, for regions that are recognised by them.
        """
