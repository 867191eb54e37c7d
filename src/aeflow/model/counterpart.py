"""The healthy counterpart: what an image's features would be without its anomaly.

``h = z + a (m - z) + b (n - z)`` at each position: the image's own features ``z`` where nothing is anomalous, those of
the mirror image ``m`` where this side is more anomalous than the other, and what is normal at this position, ``n``,
where both sides are. Decoded beside the plain reconstruction, it shows what the anomaly changed: both pass through the
same decoder, so what that cannot paint cancels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def shares(deviations: Tensor, start: float, full: float) -> tuple[Tensor, Tensor]:
    """Return the shares ``a`` and ``b`` of the mirror image and of the normal, (B, h, w) each, from an anomaly map.

    ``deviations`` (B, h, w): nothing is replaced up to ``start``, everything from ``full`` on, both in the map's unit.
    A difference between the sides is hot on both: the side that leads by ``full - start`` takes all from the other,
    which keeps its own. A cell beside an anomaly sees some of it, so shares reach one cell further, and fade; where
    those of both sides meet, as at the midline, neither is a model of the other. ``a + b <= 1``.
    """
    hot = _smoothstep((deviations - start) / (full - start))
    lead = (deviations - deviations.flip(-1)) / (full - start)
    a, b = _grown(hot * _smoothstep(lead)), _grown(hot * (1 - _smoothstep(lead.abs())))
    both = a * a.flip(-1)
    return a - both, (b + both).minimum(1 - a + both)


def anomaly_share(deviations: Tensor, start: float, full: float) -> Tensor:
    """Return the share to replace where no side is a model of the other, (B, h, w), otherwise as ``shares``."""
    return _grown(_smoothstep((deviations - start) / (full - start)))


def healthy_counterpart(
    features: list[Tensor], mirrored: list[Tensor], normal: list[Tensor], a: Tensor, b: Tensor
) -> list[Tensor]:
    """Return the features (B, C, h, w) of each stage with what is anomalous replaced, by the equation above.

    ``mirrored`` are the features of the images flipped left to right, so that a position holds what lies at its mirror
    position; ``normal`` (1, C, h, w) is what is normal at each position. The shares ``a`` and ``b`` (B, h', w') are
    resized to each stage.
    """
    healthy = []
    for z, m, n in zip(features, mirrored, normal, strict=True):
        of_mirror, of_normal = (
            F.interpolate(share[:, None], z.shape[-2:], mode="bilinear", align_corners=False) for share in (a, b)
        )
        healthy.append(z + of_mirror * (m - z) + of_normal * (n - z))
    return healthy


def _smoothstep(t: Tensor) -> Tensor:
    t = t.clamp(0, 1)
    return t * t * (3 - 2 * t)


def _grown(share: Tensor) -> Tensor:
    """Return the largest share of each cell's 3 x 3 neighbours, averaged over as many."""
    grown = F.max_pool2d(share[:, None], 3, stride=1, padding=1)
    return F.avg_pool2d(grown, 3, stride=1, padding=1, count_include_pad=False)[:, 0]
