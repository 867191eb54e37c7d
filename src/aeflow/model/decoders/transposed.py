"""Decoder of transposed convolutions, as AE-FLOW has it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TransposedDecoder(nn.Module):
    """``x_hat = sigmoid(g(u) + mean)``: transposed convolutions of stride 2, a 3x3 one behind all but the last.

    AE-FLOW's decoder is ``TransposedDecoder((1024, 512, 256, 64, 3))``: 5.7 M parameters, (B, 1024, 16, 16) ->
    (B, 3, 256, 256). ReLU between the layers. The end activation is not published; a sigmoid reaches exactly the range
    of pixels, [0, 1]. With ``size`` (H, W) images are aligned, and ``mean`` is the mean normal image before the
    sigmoid: the layers learn what is different about an image, not what all of them share. Without, it is 0.
    """

    mean_image: Tensor | None

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

    def forward(self, u: Tensor) -> Tensor:
        """Map latent (B, C, h, w) to image (B, 3, H, W) in [0, 1], ``H = h * 2 ** (len(channels) - 1)``."""
        x_hat: Tensor = self.layers(u)
        return torch.sigmoid(x_hat if self.mean_image is None else x_hat + self.mean_image)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set the mean normal image from images ``x`` (B, 3, H, W)."""
        if self.mean_image is not None:
            self.mean_image.copy_(torch.logit(x.mean(dim=0, keepdim=True), eps=0.02))
