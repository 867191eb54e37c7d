"""Region that a small network on the encoder's frozen features has learnt from painted images."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from aeflow.errors import SettingsError
from aeflow.model.encoder import Encoder
from aeflow.model.regions.base import Region
from aeflow.model.resizing import averaged, bilinear

STRIDES = (4, 8, 16)  # of the stages whose features it sees
SIDE = 144  # pixels a side of the picture in which the region is looked for
WIDTH = 24  # channels of its convolutions
SHARPNESS = 3.0  # factor on the logit: edges are a pixel or two wide, not as wide as a cell of the finest stage


class LearnedRegion(Region):
    """``p(x) = sigmoid(k logit(z))``: a feature pyramid (Lin et al., 2017) on frozen features z of x made small.

    It looks for an organ, so there is tissue beside it, and images are seen in the box around it.
    """

    beside = True
    boxed = True

    def __init__(self, encoder: Encoder) -> None:
        """Build the network untrained; raises SettingsError if the encoder has no stage at one of ``STRIDES``."""
        super().__init__()
        stages = [_stage(encoder, stride) for stride in STRIDES]
        self.lateral = nn.ModuleList(nn.Conv2d(encoder.channels[i], WIDTH, 1) for i in stages)
        self.mix = nn.ModuleList(
            nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.GroupNorm(4, WIDTH), nn.SiLU()) for _ in STRIDES
        )
        self.out = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, x: Tensor, encoder: Encoder) -> Tensor:
        """Return the probability of each pixel, (B, 1, H, W), continuous in ``x``."""
        logit = self.logit(self.features(x, encoder))
        return (SHARPNESS * bilinear(logit, x.shape[2:])).sigmoid()

    def features(self, x: Tensor, encoder: Encoder) -> list[Tensor]:
        """Return features of the small picture at ``STRIDES``, each position's vector of root mean square 1."""
        maps = encoder(averaged(x, (SIDE, SIDE)))
        chosen = [maps[_stage(encoder, stride)] for stride in STRIDES]
        return [F.normalize(z, dim=1) * z.shape[1] ** 0.5 for z in chosen]

    def logit(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logit (B, 1, h, w) at the finest of the strides."""
        y = self.mix[-1](self.lateral[-1](features[-1]))
        for i in range(len(features) - 2, -1, -1):
            y = self.mix[i](self.lateral[i](features[i]) + F.interpolate(y, size=features[i].shape[-2:]))
        logit: Tensor = self.out(y)
        return logit


def _stage(encoder: Encoder, stride: int) -> int:
    if stride not in encoder.strides:
        found = f"stages of {encoder.name} at strides {encoder.strides} where {list(STRIDES)} are needed"
        raise SettingsError("region", found, "choose an encoder with these stages, or region=body")
    return encoder.strides.index(stride)
