"""Controls that need no network, no training and no normals: one number of an image and its lungs."""

from __future__ import annotations

import io
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.metrics.image import auroc
from benchmarks.studies.altered_copies.copies import as_picture

RING = 16  # pixels beside the lungs
QUALITY = 90  # of the JPEG file


def brightness(x: Tensor, part: Tensor) -> Tensor:
    """Return the mean brightness (B,) of a part (B, 1, H, W) of images; 0 where there is no such part."""
    return (x * part).sum(dim=(1, 2, 3)) / part.sum(dim=(1, 2, 3)).clamp_min(1)


def ring(lungs: Tensor) -> Tensor:
    """Return what lies within RING pixels of the lungs, in a square, and outside of them."""
    rows = F.max_pool2d(lungs, (2 * RING + 1, 1), stride=1, padding=(RING, 0))
    return F.max_pool2d(rows, (1, 2 * RING + 1), stride=1, padding=(0, RING)) - lungs


def jpeg_bytes(x: Tensor, _: Tensor) -> Tensor:
    """Return how many bytes (B,) each image has as a JPEG file."""
    sizes = []
    for one in x:
        file = io.BytesIO()
        as_picture(one).save(file, "JPEG", quality=QUALITY)
        sizes.append(file.tell())
    return torch.tensor(sizes, dtype=torch.float32)


CONTROLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness of the lungs": brightness,
    "brightness of the lungs less that of a ring around them": lambda x, lungs: (
        brightness(x, lungs) - brightness(x, ring(lungs))
    ),
    "area of the lungs": lambda _, lungs: lungs.mean(dim=(1, 2, 3)),
    "distance to the mirror image, pixels": lambda x, _: (x - x.flip(3)).abs().mean(dim=(1, 2, 3)),
    "size as a JPEG file": jpeg_bytes,
}


def either_way(values: list[float], labels: list[int]) -> float:
    """Return the AUROC in whichever direction is right more often: a control that is helped."""
    area = auroc(values, labels)
    return max(area, 1 - area)
