"""The healthy counterpart: what an image's features would be without its anomaly.

``h = (1 - a) z + a (1 - a') m + a a' n`` at each position: the image's own features ``z`` where nothing is anomalous
(weight ``a`` near 0), those of the mirror image ``m`` where the other side is healthy (its weight ``a'`` near 0), and
what is normal at this position, ``n``, where both sides are anomalous. Decoded beside the plain reconstruction, it
shows what the anomaly changed: both pass through the same decoder, so what that cannot paint cancels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def anomaly_weight(deviations: Tensor, start: float, full: float) -> Tensor:
    """Return how much of each position to replace, (B, h, w) in [0, 1], from its anomaly map (B, h, w).

    0 up to ``start`` and 1 from ``full`` on, both in the map's unit; a smoothstep lies between. A cell beside an
    anomaly sees some of it: the weight is that of the hottest of a cell's 3 x 3 neighbours, then averaged over them.
    """
    share = ((deviations - start) / (full - start)).clamp(0, 1)
    weight = (share * share * (3 - 2 * share))[:, None]
    grown = F.max_pool2d(weight, 3, stride=1, padding=1)
    return F.avg_pool2d(grown, 3, stride=1, padding=1, count_include_pad=False)[:, 0]


def healthy_counterpart(
    features: list[Tensor], mirrored: list[Tensor], normal: list[Tensor], weight: Tensor
) -> list[Tensor]:
    """Return the features (B, C, h, w) of each stage with what is anomalous replaced, by the equation above.

    ``mirrored`` are the features of the images flipped left to right, so that a position holds what lies at its mirror
    position; ``normal`` (1, C, h, w) or (B, C, h, w) is what is normal at each position. ``weight`` (B, h', w') in
    [0, 1] is resized to each stage.
    """
    healthy = []
    for z, m, n in zip(features, mirrored, normal, strict=True):
        a = F.interpolate(weight[:, None], z.shape[-2:], mode="bilinear", align_corners=False)
        other = a.flip(-1)
        healthy.append(torch.lerp(z, torch.lerp(m, n.expand_as(z), other), a))
    return healthy
