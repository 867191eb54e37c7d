"""Maps of a batch in the whole picture: what lies in the box of the region is laid back, the rest does not count."""

from __future__ import annotations

import torch
from torch import Tensor

from aeflow.model.aeflow import AEFlow, Measures
from aeflow.model.box import paste
from aeflow.model.front import Encoded
from aeflow.model.resizing import bilinear, sides
from aeflow.model.terms import TERMS

UNCOUNTED = 3.0  # standard deviations below the mean of normals that the map of each term has where nothing counts


def anomaly_map(net: AEFlow, measures: Measures) -> Tensor:
    """Return ``sum_i weight_i map_i`` over the terms, as the score is composed, in the whole picture, (B, H, W).

    Each map is in standard deviations of held-out normals; it is UNCOUNTED below their mean where nothing counts, so
    that no scale of normals colours it.
    """
    least = -UNCOUNTED * sum(TERMS[name].weight(net.settings) for name in measures.maps)
    above = bilinear(cells_map(net, measures), sides(measures.x_hat)) - least
    return in_picture(net, above, measures.encoded) + least


def cells_map(net: AEFlow, measures: Measures) -> Tensor:
    """Return the same sum in cells of the box, (B, h, w), at the size of the finest of the maps."""
    size = max(map(sides, measures.maps.values()))
    parts = [TERMS[name].weight(net.settings) * bilinear(m, size) for name, m in measures.maps.items()]
    return torch.stack(parts).sum(dim=0)


def residual_map(net: AEFlow, measures: Measures) -> Tensor:
    """Return the absolute difference of image and reconstruction, mean over the colours, (B, H, W)."""
    residual = (measures.encoded.x - measures.x_hat).abs().mean(dim=1)
    return in_picture(net, residual, measures.encoded)


def region_map(net: AEFlow, encoded: Encoded) -> Tensor:
    """Return how far each pixel of the whole picture counts, (B, H, W) in [0, 1]."""
    return in_picture(net, torch.ones_like(encoded.x[:, 0]), encoded)


def in_picture(net: AEFlow, maps: Tensor, encoded: Encoded) -> Tensor:
    """Return maps (B, H, W) of the box laid back into the whole picture, and 0 where nothing counts."""
    if encoded.region is None or encoded.box is None:
        return maps
    inside = bilinear(net.front.core(encoded.region, encoded.box)[:, 0], sides(maps))
    return paste(maps * inside, encoded.box, sides(maps))


def laid_into(net: AEFlow, x: Tensor, pictures: Tensor, encoded: Encoded) -> Tensor:
    """Return images ``x`` (B, 3, H, W) with ``pictures`` (B, 3, H, W) of what is in their boxes laid there."""
    box = encoded.box
    if box is None or not net.front.boxed:
        return pictures
    size = sides(x)
    inside = paste(torch.ones_like(x[:, 0]), box, size)[:, None]
    laid = torch.stack([paste(channel, box, size) for channel in pictures.unbind(dim=1)], dim=1)
    return laid + (1 - inside) * x
