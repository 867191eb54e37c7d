"""Statistics of an image by which ``calibration.input_guard`` decides if a model is meant for it."""

from __future__ import annotations

import torch
from torch import Tensor

from aeflow.model.output_names import PICTURE_SIDE
from aeflow.model.resizing import averaged

WHITE = 0.98  # grey value from which pixels count as clipped


def measure_input_statistics(x: Tensor, pooled: Tensor) -> Tensor:
    """Return the input statistics (B, T) of images ``x`` (B, 3, H, W) in [0, 1] with pooled features (B, D).

    Five plain ones (``calibration.input_guard.PLAIN``), a small picture, and the pooled features (``model.pooling``).
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
    pictures = averaged(grey, (PICTURE_SIDE, PICTURE_SIDE)).flatten(1)
    return torch.cat([torch.stack(plain, dim=1), pictures, pooled], dim=1)
