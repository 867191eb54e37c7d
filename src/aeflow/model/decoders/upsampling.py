"""Decoder from frozen features back to an image, by bilinear steps and 3x3 convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeflow.errors import SettingsError

# Channels at each stride: at most 29 million multiplications at 224 px each. A deeper stage has as many as stride 16.
WIDTHS = {16: 64, 8: 48, 4: 32, 2: 16}
FINE = 4  # channels that are carried to full size


class UpsamplingDecoder(nn.Module):
    """``x_hat = sigmoid(g(z) + mean)``: bilinear doublings from the deepest stage up, finer ones join on the way.

    A transposed convolution whose steps are as wide as its kernel paints each block of pixels alone, and the seams show
    as a comb (Odena, Dumoulin, Olah, Distill 2016). A bilinear step and a 3x3 convolution weigh all pixels alike.
    ``mean`` is the mean normal image before the sigmoid, so the layers learn what is different about an image; without
    ``size`` (H, W), for images that are not aligned, it is 0.

    The three colours start from the same weights, and grey images give each the same gradient: what learnt from grey
    images paints grey.
    """

    mean_image: Tensor

    def __init__(self, channels: Sequence[int], strides: Sequence[int], size: tuple[int, int] | None = None) -> None:
        """Build for stages of these ``channels`` at these ``strides``, both from fine to deep.

        Raises SettingsError for a stride that is no power of two, or below 4 or above 32.
        """
        super().__init__()
        for stride in strides:
            if stride not in (4, 8, 16, 32):
                found = f"the decoder reads strides 4, 8, 16 and 32, not {stride}"
                raise SettingsError("decoder stages", found, "choose another stage or encoder")
        self.strides = tuple(strides)
        levels = [2**power for power in range(max(strides).bit_length() - 1, 0, -1)]
        widths = [WIDTHS.get(stride, max(WIDTHS.values())) for stride in levels]
        self.levels = levels
        self.lateral = nn.ModuleDict(
            {
                str(stride): nn.Conv2d(c, widths[levels.index(stride)], 1)
                for c, stride in zip(channels, strides, strict=True)
            }
        )
        self.mix = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths)
        self.narrow = nn.ModuleList(nn.Conv2d(c_in, c_out, 1) for c_in, c_out in itertools.pairwise([*widths, FINE]))
        self.paint = nn.Conv2d(FINE, 3, 3, padding=1)
        with torch.no_grad():
            self.paint.weight.copy_(self.paint.weight[:1].expand_as(self.paint.weight))
            self.paint.bias.zero_()  # type: ignore[union-attr]
        self.register_buffer("mean_image", torch.zeros(1, 3, *(size or (1, 1))))
        self.aligned = size is not None
        for c, stride in zip(channels, strides, strict=True):
            self.register_buffer(f"feature_mean_{stride}", torch.zeros(1, c, 1, 1))
            self.register_buffer(f"feature_std_{stride}", torch.ones(1, c, 1, 1))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map features (B, C, H / stride, W / stride) of each stage, fine to deep, to images (B, 3, H, W) in [0, 1]."""
        joining = {
            stride: self.lateral[str(stride)](self._standardised(z, stride))
            for stride, z in zip(self.strides, features, strict=True)
        }
        y: Tensor = joining.pop(self.levels[0])
        for stride, mix, narrow in zip(self.levels, self.mix, self.narrow, strict=True):
            if stride in joining:
                y = y + joining[stride]
            y = y + mix(F.relu(y))
            y = F.interpolate(narrow(F.relu(y)), scale_factor=2, mode="bilinear", align_corners=False)
        return torch.sigmoid(self.paint(F.relu(y)) + self.mean_image)

    def _standardised(self, z: Tensor, stride: int) -> Tensor:
        return (z - self.get_buffer(f"feature_mean_{stride}")) / self.get_buffer(f"feature_std_{stride}")

    @torch.no_grad()
    def initialise(self, features: list[Tensor], x: Tensor) -> None:
        """Set mean and spread of each feature, and the mean normal image, from normal images ``x`` (B, 3, H, W)."""
        if self.aligned:
            self.mean_image.copy_(torch.logit(x.mean(dim=0, keepdim=True), eps=0.02))
        for stride, z in zip(self.strides, features, strict=True):
            self.get_buffer(f"feature_mean_{stride}").copy_(z.mean(dim=(0, 2, 3), keepdim=True))
            spread = z.std(dim=(0, 2, 3), keepdim=True)
            self.get_buffer(f"feature_std_{stride}").copy_(spread.clamp_min(1e-3 * float(spread.mean())))
