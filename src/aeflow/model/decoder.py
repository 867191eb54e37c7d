"""From the latent back to an image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aeflow.errors import SettingsError


class Decoder(nn.Module):
    """``x_hat = sigmoid(g(u) + usual)``: transposed convolutions of stride 2, all but the last with a 3x3 one behind.

    AE-FLOW's decoder is ``Decoder((1024, 512, 256, 64, 3))``: 5.7 M parameters, (B, 1024, 16, 16) -> (B, 3, 256, 256).
    ReLU between the layers. The end activation is not published; a sigmoid reaches exactly the pixels' range [0, 1].
    With ``size`` (H, W) images are aligned, and ``usual`` is the mean normal image before the sigmoid: the layers learn
    what is different about an image, not what all of them share. Without, it is 0.
    """

    usual: Tensor | None

    def __init__(self, channels: Sequence[int], size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.register_buffer("usual", None if size is None else torch.zeros(1, channels[-1], *size))
        layers: list[nn.Module] = []
        *inner, last = itertools.pairwise(channels)
        for c_in, c_out in inner:
            layers += [nn.ConvTranspose2d(c_in, c_out, 2, stride=2), nn.ReLU()]
            layers += [nn.Conv2d(c_out, c_out, 3, padding=1), nn.ReLU()]
        layers += [nn.ConvTranspose2d(*last, 2, stride=2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, u: Tensor) -> Tensor:
        """Latent (B, C, h, w) to image (B, 3, H, W) in [0, 1], ``H = h * 2 ** (len(channels) - 1)``."""
        x_hat: Tensor = self.layers(u)
        return torch.sigmoid(x_hat if self.usual is None else x_hat + self.usual)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set what is usual from normal images ``x`` (B, 3, H, W)."""
        if self.usual is not None:
            self.usual.copy_(torch.logit(x.mean(dim=0, keepdim=True), eps=0.02))


def decoder_halvings(stride: int) -> int:
    """How often a stride-2 layer must run to undo ``stride``; raises SettingsError unless it is a power of two."""
    doublings = math.log2(stride)
    if not doublings.is_integer():
        raise SettingsError("stages", f"stride {stride} is not a power of two", "choose another stage or encoder")
    return int(doublings)
