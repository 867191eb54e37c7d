"""What of an image tells whether a model is meant for it; ``aeflow.input_guard`` says what is usual."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.model.output_names import PICTURE_SIDE

WHITE = 0.98  # pixels from this on are clipped


def measure_input_statistics(x: Tensor, pooled: Tensor) -> Tensor:
    """The traits (B, T) of images ``x`` (B, 3, H, W) in [0, 1] with pooled features (B, D), see ``model.pooled.pool``.

    Five plain ones (``intended.PLAIN``), a small picture, and the pooled features.
    """
    grey = x.mean(dim=1)
    spread, mean = torch.std_mean(grey, dim=(1, 2), correction=0)
    step = (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean(dim=(1, 2))
    plain = (
        torch.log((mean + 0.01) / (1.01 - mean)),
        torch.log((grey >= WHITE).float().mean(dim=(1, 2)) + 0.05),
        torch.log(spread + 0.01),
        torch.log((x.amax(dim=1) - x.amin(dim=1)).mean(dim=(1, 2)) + 0.02),
        torch.log((step + 1e-4) / (spread + 1e-2)),
    )
    pictures = F.adaptive_avg_pool2d(grey[:, None], PICTURE_SIDE).flatten(1)
    return torch.cat([torch.stack(plain, dim=1), pictures, pooled], dim=1)
