"""What a network whose weights are trained still lacks for its scores and pictures, from normals as before.

The scale of each term's map, the weight of the log-determinant, and the Gaussian of the codes that the decoder reads.
"""

from __future__ import annotations

import torch

from aeflow.config import Settings
from aeflow.data.splits import evenly
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.features.device_batches import Feed
from aeflow.model.aeflow import AEFlow
from aeflow.runtime.progress import bar
from aeflow.training import log_det_weight

# Held-out normals that the scales of maps and the weight are found on; more would only take longer.
MAX_NORMALS = 5000
MAX_LATENTS = 300  # train normals whose codes the Gaussian of new ones is fitted on


def scale_maps(net: AEFlow, held_out: Features) -> None:
    """Set the scale of each term's map from held-out normals."""
    feed = Feed(held_out.thinned(MAX_NORMALS), next(net.parameters()).device)
    net.eval()
    net.scale_maps(net.encoded(*batch) for batch in feed.batches(net.settings.batch_size))


def choose_log_det_weight(net: AEFlow, cache: FeatureCache, held_out: Features) -> tuple[Settings, dict[str, float]]:
    """Return the settings with the weight chosen if they leave it open, and the AUROC of each weight that was tried."""
    if net.settings.log_det_weight is not None or "flow" not in net.terms:
        return net.settings, {}
    normals = min(len(held_out), log_det_weight.MAX_ANOMALOUS)
    with bar("Synthetic anomalies", normals * log_det_weight.views_of(normals)) as advance:
        anomalous = log_det_weight.anomalies(cache, held_out, advance)
    return log_det_weight.chosen(net, held_out.thinned(MAX_NORMALS), anomalous)


@torch.no_grad()
def codes(net: AEFlow, normals: Features) -> list[torch.Tensor]:
    """Return what the decoder reads (n, C, h, w) of some train normals, at most MAX_LATENTS of them."""
    rows, device = evenly(range(len(normals)), MAX_LATENTS), next(net.parameters()).device
    starts = range(0, len(rows), net.settings.batch_size)
    found = []
    for start in starts:
        parts, x = normals.batch(rows[start : start + net.settings.batch_size])
        encoded = net.encoded([part.to(device) for part in parts], x.to(device))
        found.append(net.code(encoded, net.encode(encoded)))
    return [torch.cat(part) for part in zip(*found, strict=True)]
