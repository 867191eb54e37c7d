"""Changes of exposure, sharpness and storage, as another scanner, day or export would give them; nothing moves."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.data.augment import QUALITY, as_image, compressed
from aeflow.model.described import blurred

GAMMA = 0.3  # of its logarithm, either way; so is the contrast's next
CONTRAST = 0.2
BRIGHTNESS = 0.08  # of the full range, either way
BLUR = 1.2  # pixels: greatest spread
RESOLUTIONS = (1.0, 0.8, 0.65, 0.5)  # shares of the pixels a side that are kept
NOISE = 0.02  # greatest standard deviation


def another_capture(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (B, 3, H, W) in [0, 1] with other gamma, contrast, brightness, sharpness, noise and compression.

    Half of the batch is blurred, the other half sampled down and up again; all are on the CPU.
    """
    n, side = len(x), x.shape[-1]

    def drawn(reach: float) -> Tensor:
        return reach * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)

    x = x.clamp(0, 1) ** torch.exp(drawn(GAMMA))
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * torch.exp(drawn(CONTRAST)) + mean + drawn(BRIGHTNESS)
    order = torch.randperm(n, generator=generator)
    soft, coarse = order[: n // 2], order[n // 2 :]
    sigma = 0.3 + (BLUR - 0.3) * float(torch.rand((), generator=generator))
    kept = RESOLUTIONS[int(torch.randint(len(RESOLUTIONS), (), generator=generator))]
    y = x.clone()
    if len(soft):
        y[soft] = blurred(x[soft], sigma)
    if kept < 1:
        small = F.interpolate(x[coarse], size=(round(kept * side),) * 2, mode="bilinear", antialias=True)
        y[coarse] = F.interpolate(small, size=(side, side), mode="bilinear")
    noise = torch.randn(n, 1, *x.shape[2:], generator=generator)
    y = (y + noise * (drawn(NOISE).abs())).clamp(0, 1)
    qualities = torch.randint(QUALITY[0], QUALITY[1] + 1, (n,), generator=generator).tolist()
    stored = [compressed(as_image(one), quality) for one, quality in zip(y.numpy(), qualities, strict=True)]
    return torch.from_numpy(np.stack(stored))
