"""Train normals, captured again: what the bounds of a model's intended input are learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from aeflow.data.augment import recapture
from aeflow.data.split import evenly
from aeflow.features import Features
from aeflow.intended import Intended, Seen, fit
from aeflow.model.aeflow import AEFlow
from aeflow.model.pooled import pool
from aeflow.model.traits import measure_traits
from aeflow.progress import bar

MOST = 300  # train normals, and held-out ones, that are captured again
BATCH = 32


@torch.no_grad()
def learn(net: AEFlow, views: Sequence[Features], held_out: Features) -> Intended:
    """Fit on the train normals in all their views, and on as many recaptured ones, kept and held out, as MOST."""
    train = [measure_traits(x, pool(z)) for features in views for z, x in features.batches(BATCH)]
    kept, held = (evenly(range(len(features)), MOST) for features in (views[0], held_out))
    with bar("Intended input", len(kept) + len(held)) as advance:
        train += _recaptured(net, views[0], kept, advance)
        fresh = _recaptured(net, held_out, held, advance)
    seen = Seen.of([*views[0].facts, *held_out.facts])
    return fit(torch.cat(train).double().numpy(), torch.cat(fresh).double().numpy(), seen)


def _recaptured(
    net: AEFlow, features: Features, indices: Sequence[int], advance: Callable[[int], None]
) -> list[Tensor]:
    """The traits of some images as another scanner would have given them, in batches."""
    device = next(net.parameters()).device
    found = []
    for start in range(0, len(indices), BATCH):
        batch = indices[start : start + BATCH]
        _, x = features.batch(batch)
        views = [recapture(image.numpy(), features.contents[i]) for image, i in zip(x, batch, strict=True)]
        x = torch.from_numpy(np.stack(views)).to(device)
        pooled = pool(net.of_stages(net.encoder(x), net.settings.stages))
        found.append(measure_traits(x, pooled).cpu())
        advance(len(batch))
    return found
