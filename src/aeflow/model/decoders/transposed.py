"""Decoder of transposed convolutions, as AE-FLOW has it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from aeflow.config import Settings
from aeflow.errors import SettingsError


class TransposedDecoder(nn.Module):
    """``x_hat = sigmoid(g(u) + mean)``: transposed convolutions of stride 2, a 3x3 one behind all but the last.

    AE-FLOW's decoder is ``TransposedDecoder((1024, 512, 256, 64, 3))``: 5.7 M parameters, (B, 1024, 16, 16) ->
    (B, 3, 256, 256). ReLU between the layers. The end activation is not published; a sigmoid reaches exactly the range
    of pixels, [0, 1]. With ``size`` (H, W) images are aligned, and ``mean`` is the mean normal image before the
    sigmoid: the layers learn what is different about an image, not what all of them share. Without, it is 0.
    """

    mean_image: Tensor | None
    reads_features: ClassVar[bool] = False

    def __init__(self, channels: Sequence[int], size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.register_buffer("mean_image", None if size is None else torch.zeros(1, channels[-1], *size))
        layers: list[nn.Module] = []
        *inner, last = itertools.pairwise(channels)
        for c_in, c_out in inner:
            layers += [nn.ConvTranspose2d(c_in, c_out, 2, stride=2), nn.ReLU()]
            layers += [nn.Conv2d(c_out, c_out, 3, padding=1), nn.ReLU()]
        layers += [nn.ConvTranspose2d(*last, 2, stride=2)]
        self.layers = nn.Sequential(*layers)

    @classmethod
    def of(cls, settings: Settings, channels: Sequence[int], strides: Sequence[int]) -> Self:
        """Build for the deepest of the flows' stages, of these ``channels`` at these ``strides``."""
        layers = halvings(strides[-1])
        if len(settings.decoder) != layers - 1:
            found = f"{len(settings.decoder)} widths for a latent of stride {strides[-1]}"
            raise SettingsError("decoder", found, f"give {layers - 1} widths, each layer doubles the size")
        side = settings.image_size
        return cls((channels[-1], *settings.decoder, 3), (side, side) if settings.positions else None)

    def forward(self, code: list[Tensor]) -> Tensor:
        """Map a latent [(B, C, h, w)] to images (B, 3, H, W) in [0, 1], ``H = h * 2 ** (len(channels) - 1)``."""
        x_hat: Tensor = self.layers(code[-1])
        return torch.sigmoid(x_hat if self.mean_image is None else x_hat + self.mean_image)

    @torch.no_grad()
    def initialise(self, code: list[Tensor], x: Tensor) -> None:
        """Set the mean normal image from images ``x`` (B, 3, H, W)."""
        if self.mean_image is not None:
            self.mean_image.copy_(torch.logit(x.mean(dim=0, keepdim=True), eps=0.02))


def halvings(stride: int) -> int:
    """Return how often the size must double to undo ``stride``; SettingsError unless it is a power of two."""
    doublings = math.log2(stride)
    if not doublings.is_integer():
        raise SettingsError("stages", f"stride {stride} is not a power of two", "choose another stage or encoder")
    return int(doublings)
