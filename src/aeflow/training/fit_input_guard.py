"""Fit of the input guard: train normals in all views, and recaptured normals for the bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from aeflow.calibration.input_guard import InputGuard, SeenInputs, fit_guard
from aeflow.data.augment import recapture
from aeflow.data.splits import evenly
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.input_statistics import measure_input_statistics
from aeflow.model.pooling import pool
from aeflow.runtime.progress import bar

MAX_FITTED = 10_000  # train normals of each view that the statistics are fitted on; more would only fill the memory
MAX_NORMALS = 300  # train normals, and held-out ones, that are recaptured
BATCH = 32


@torch.no_grad()
def learn_input_guard(net: AEFlow, views: Sequence[Features], held_out: Features) -> InputGuard:
    """Fit on the train normals in all their views, and on recaptured normals.

    At most MAX_NORMALS of each are recaptured: train normals join the fit, held-out ones set the bounds.
    """
    train, regions = [], []
    for features in views:
        for parts, x in features.thinned(MAX_FITTED).batches(BATCH):
            encoded = net.encoded(parts, x)
            train.append(measure_input_statistics(x, pool(net.flow_features(encoded))))
            regions += [encoded.statistics] if net.front.recognises and encoded.statistics is not None else []
    kept, held = (evenly(range(len(features)), MAX_NORMALS) for features in (views[0], held_out))
    with bar("Intended input", len(kept) + len(held)) as advance:
        train += _recaptured(net, views[0], kept, advance)
        fresh = _recaptured(net, held_out, held, advance)
    seen = SeenInputs.of([*views[0].acquisitions, *held_out.acquisitions])
    known = torch.cat(regions).double().numpy() if regions else None
    return fit_guard(torch.cat(train).double().numpy(), torch.cat(fresh).double().numpy(), seen, known)


def _recaptured(
    net: AEFlow, features: Features, indices: Sequence[int], advance: Callable[[int], None]
) -> list[Tensor]:
    """Return the input statistics of some images as another scanner would have given them, in batches."""
    device = next(net.parameters()).device
    found = []
    for start in range(0, len(indices), BATCH):
        batch = indices[start : start + BATCH]
        _, x = features.batch(batch)
        views = [recapture(image.numpy(), features.contents[i]) for image, i in zip(x, batch, strict=True)]
        x = torch.from_numpy(np.stack(views)).to(device)
        pooled = pool(net.encoder_features(x, net.settings.stages))
        found.append(measure_input_statistics(x, pooled).cpu())
        advance(len(batch))
    return found
