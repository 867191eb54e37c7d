"""Fitting of the score's terms on described train normals, synthetic anomalies in their regions, and recaptures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.data.splits import evenly
from aeflow.features.arithmetic import Arithmetic
from aeflow.features.cached_features import Features
from aeflow.features.row_encoder import RowEncoder
from aeflow.model.aeflow import AEFlow
from aeflow.model.described import STRIDE, Described
from aeflow.model.front import Encoded, Front, Seen
from aeflow.model.terms.base import TermModule
from aeflow.model.terms.examples import Examples
from aeflow.runtime.progress import bar
from aeflow.training.another_capture import another_capture
from aeflow.training.region_anomalies import anomalies_seen

MAX_NORMALS = 2000  # train normals that are described at once; more would only fill the memory
ANOMALIES = 1000  # synthetic ones: one each of so many normals, several of each if there are fewer
MAX_VIEWS = 5  # anomalies of one image
MAX_RECAPTURED = 300  # normals that are captured anew
BATCH = 50  # images that lend each other tissue


def described(front: Front, normals: Features) -> Described:
    """Return the descriptions of at most MAX_NORMALS normals from their cached features."""
    rows = evenly(range(len(normals)), MAX_NORMALS)
    parts = [_encoded(front, normals, rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
    return joined([part.described for part in parts if part.described is not None])


def fit_terms(
    net: AEFlow, views: Sequence[Features], clean: Described, seed: int, arithmetic: Arithmetic | None = None
) -> None:
    """Fit every term of a model on views of the normals, the first as they are, as ``clean`` describes them.

    Those of the second, moved if there is one, are captured anew.
    """
    examples = make_examples(net.front, views[0], views[:2][-1], clean, seed, arithmetic)
    for term in net.terms.values():
        cast(TermModule, term).fit(examples)


@torch.no_grad()
def make_examples(
    front: Front,
    normals: Features,
    moved: Features,
    clean: Described,
    seed: int,
    arithmetic: Arithmetic | None = None,
) -> Examples:
    """Return described normals with synthetic anomalies and recaptures of some of them; ``seed`` decides all.

    Recaptures are of ``moved``, the same images turned, zoomed and shifted, each in the region that is found in it: a
    direction in which position alone moves an image is none of a lesion's. Without an ``arithmetic`` torch computes
    their features.
    """
    assert moved.records == normals.records
    generator = torch.Generator().manual_seed(seed)
    known = evenly(range(len(normals)), MAX_NORMALS)
    chosen = evenly(range(len(known)), ANOMALIES)
    views = _views(len(chosen))
    changed: list[Described] = []
    recaptured: list[Described] = []
    changes: list[Tensor] = []
    origin: list[int] = []
    exposed = evenly(chosen, MAX_RECAPTURED)
    encode = RowEncoder(front.encoder, front.size, arithmetic).stages
    with bar("Synthetic anomalies", len(chosen) * views + len(exposed)) as advance:
        for rows in _batches(_shuffled(chosen, views, generator)):
            seen = seen_rows(front, normals, [known[row] for row in rows])
            x, change = anomalies_seen(seen, generator)
            changed.append(_described_as(front, encode, seen, x))
            changes.append(F.avg_pool2d(change, STRIDE)[:, 0])
            origin += rows
            advance(len(rows))
        for rows in _batches(exposed):
            seen = seen_rows(front, moved, [known[row] for row in rows])
            recaptured.append(_described_as(front, encode, seen, another_capture(seen.x.cpu(), generator)))
            advance(len(rows))
    return Examples(
        clean=clean,
        changed=joined(changed),
        origin=torch.tensor(origin),
        change=torch.cat(changes),
        recaptured=joined(recaptured),
        recaptured_origin=torch.tensor(exposed),
    )


def images_of(normals: int) -> int:
    """Return the number of images that ``make_examples`` computes features of."""
    chosen = min(normals, ANOMALIES)
    return chosen * _views(chosen) + min(chosen, MAX_RECAPTURED)


def _views(chosen: int) -> int:
    return min(MAX_VIEWS, math.ceil(ANOMALIES / chosen))


def _shuffled(rows: list[int], views: int, generator: torch.Generator) -> list[int]:
    """Return rows so many times over, in random order each time: neighbours in a folder are often of one patient."""
    orders = [torch.randperm(len(rows), generator=generator).tolist() for _ in range(views)]
    return [rows[at] for order in orders for at in order]


def _batches(rows: list[int]) -> list[list[int]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def joined(parts: list[Described]) -> Described:
    """Return descriptions one after the other."""
    z, weight = torch.cat([part.z for part in parts]), torch.cat([part.weight for part in parts])
    return Described(z, weight, parts[0].mirror_axis)


def _encoded(front: Front, normals: Features, rows: list[int]) -> Encoded:
    parts, x = normals.batch(rows)
    return front.encoded(parts, x)


def seen_rows(front: Front, normals: Features, rows: list[int]) -> Seen:
    """Return cached images as seen."""
    encoded = _encoded(front, normals, rows)
    assert encoded.region is not None
    assert encoded.box is not None
    assert encoded.statistics is not None
    return Seen(encoded.x, encoded.region, encoded.box, encoded.statistics)


def _described_as(front: Front, encode: Callable[[Tensor], list[Tensor]], seen: Seen, x: Tensor) -> Described:
    """Return the description of changed images within the regions of the unchanged ones."""
    seen = seen.with_x(x).to(front.mean.device)
    found = front.of_features(encode(seen.x), seen).described
    assert found is not None
    return Described(found.z.cpu(), found.weight.cpu(), found.mirror_axis)
