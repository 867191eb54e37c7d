"""How well the healthy counterpart shows an anomaly, measured on synthetic anomalies of held-out normals."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from aeflow.calibration.calibration import Calibration
from aeflow.data.splits import evenly
from aeflow.features.cached_features import Features
from aeflow.metrics.intervals import delong
from aeflow.model.aeflow import AEFlow
from aeflow.model.front import CELL
from aeflow.model.generate import repaired
from aeflow.model.terms.examples import CHANGED
from aeflow.training.fit_terms import seen_rows
from aeflow.training.region_anomalies import anomalies_seen

IMAGES = 24  # held-out normals that get an anomaly
COARSE = 8  # pixels of a cell in which difference and anomaly are compared


@torch.no_grad()
def counterpart_auroc(net: AEFlow, calibration: Calibration, held_out: Features) -> float | None:
    """Return the AUROC of ``|reconstruction - healthy counterpart|`` for what was changed, over the region's cells.

    None if the model describes no region, or if no cell was changed.
    """
    if not net.front.describes:
        return None
    device = next(net.parameters()).device
    seen = seen_rows(net.front, held_out, evenly(range(len(held_out)), IMAGES))
    generator = torch.Generator().manual_seed(net.settings.seed)
    x, change = anomalies_seen(seen, generator)
    encoded = net.front.of_seen(seen.with_x(x).to(device))
    x_hat = net.decode(net.code(encoded, net.encode(encoded)))
    difference = (x_hat - repaired(net, encoded, calibration.map_limits["anomaly"])).abs().mean(dim=1, keepdim=True)
    size = COARSE // CELL
    counted = (F.avg_pool2d(seen.region, size) > 0.5).flatten().numpy()
    changed = (F.avg_pool2d(change, COARSE) > CHANGED).flatten().numpy()[counted]
    values = F.avg_pool2d(difference, COARSE).flatten().cpu().numpy()[counted]
    if not 0 < changed.sum() < len(changed):
        return None
    return float(delong(values.astype(np.float64), changed.astype(int).tolist())[0])
