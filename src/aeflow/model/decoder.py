"""From the latent back to an image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn


class Decoder(nn.Module):
    """``x_hat = g(u)``: transposed 2x2 convolutions of stride 2, each but the last followed by a 3x3 convolution.

    AE-FLOW's decoder is ``Decoder((1024, 512, 256, 64, 3))``: 5.7 M parameters, (B, 1024, 16, 16) -> (B, 3, 256, 256).
    ReLU between the layers. The end activation is not published; a sigmoid reaches exactly the pixels' range [0, 1].
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        *inner, last = itertools.pairwise(channels)
        for c_in, c_out in inner:
            layers += [nn.ConvTranspose2d(c_in, c_out, 2, stride=2), nn.ReLU()]
            layers += [nn.Conv2d(c_out, c_out, 3, padding=1), nn.ReLU()]
        layers += [nn.ConvTranspose2d(*last, 2, stride=2), nn.Sigmoid()]
        self.layers = nn.Sequential(*layers)

    def forward(self, u: Tensor) -> Tensor:
        """Latent (B, C, h, w) to image (B, 3, H, W) in [0, 1], ``H = h * 2 ** (len(channels) - 1)``."""
        x_hat: Tensor = self.layers(u)
        return x_hat
