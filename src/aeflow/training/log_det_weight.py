"""Choice of the log-determinant's weight in the score, on train normals and synthetic anomalies of them.

A position's part of the score is ``-(log p(u) + w * log |det|) / C``. With ``w`` = 1 it is the likelihood, which finds
what is focal; without the determinant it is the distance of the latent from the origin, which finds what is diffuse.
Which of them a set of images needs is not known beforehand. So the held-out normals each get synthetic anomalies
(``data.synthetic_anomalies``), and the score keeps the ``w`` that ranks these best above the normals themselves
(AUROC). It uses no abnormal image and no test split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from aeflow._types import Floats
from aeflow.calibration.calibration import fit_calibration
from aeflow.config import UNCHOSEN, Settings
from aeflow.data.splits import evenly
from aeflow.data.synthetic_anomalies import synthetic
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.features.device_batches import Feed
from aeflow.metrics.intervals import delong
from aeflow.model.aeflow import AEFlow
from aeflow.model.terms.flow import measure_at
from aeflow.model.terms.scored_batch import ScoredBatch

WEIGHTS = tuple(eighth / 8 for eighth in range(9))
MAX_ANOMALOUS = 300  # held-out normals that get an anomaly
MIN_ANOMALIES = 100  # several of an image if there are fewer normals
MAX_VIEWS = 5  # anomalies of one image

Measures = dict[str, Floats]  # raw measures of each term, (n,) or (n, columns)


def views_of(images: int) -> int:
    """Return the number of synthetic anomalies per image."""
    return min(MAX_VIEWS, math.ceil(MIN_ANOMALIES / images))


def anomalies(cache: FeatureCache, normals: Features, advance: Callable[[int], None] = lambda n: None) -> Features:
    """Return the features of at most MAX_ANOMALOUS of a cache's normals with a synthetic anomaly each.

    With several anomalies per image they come view after view.
    """
    anomalous, records = cache.changed_by(synthetic), evenly(normals.records, MAX_ANOMALOUS)
    views = range(1, 1 + views_of(len(records)))
    first, *others = [anomalous.features(records, advance, view)[0] for view in views]
    return first.and_also(others)


@torch.no_grad()
def measures_under(
    net: AEFlow, groups: Mapping[str, Features], pairs: Sequence[tuple[float, float]]
) -> list[dict[str, Measures]]:
    """Return the raw measures of each group under each pair of ``log_det_weight`` and ``top_share``.

    The groups' batches hold what ``net`` reads; each image passes the network once. The first group is not empty.
    """
    net.eval()
    device = next(net.parameters()).device
    found: list[dict[str, Measures]] = [{} for _ in pairs]
    for group, features in groups.items():
        parts: list[dict[str, list[Floats]]] = [{name: [] for name in net.terms} for _ in pairs]
        for z, x in Feed(features, device).batches(net.settings.batch_size):
            encoded = net.encoded(z, x)
            latent = net.encode(encoded)
            batch = net.batch(encoded, latent, net.needed_x_hat(encoded, latent))
            others = {share: _others(net, batch, share) for share in {share for _, share in pairs}}
            for (weight, share), of_pair in zip(pairs, parts, strict=True):
                if "flow" in net.terms:
                    of_pair["flow"].append(_numbers(measure_at(batch, weight, share)))
                for name, measure in others[share].items():
                    of_pair[name].append(measure)
        for measured, of_pair in zip(found, parts, strict=True):
            none = {name: values[:0] for name, values in next(iter(measured.values()), {}).items()}
            measured[group] = {
                name: np.concatenate(several) if several else none[name] for name, several in of_pair.items()
            }
    return found


def _others(net: AEFlow, batch: ScoredBatch, share: float) -> Measures:
    """Return the raw measures of a batch by all terms but the flow's, with another share of positions."""
    read = replace(batch, settings=batch.settings.model_copy(update={"top_share": share}))
    return {name: _numbers(term(read)) for name, term in net.terms.items() if name != "flow"}


def candidates(settings: Settings) -> list[Settings]:
    """Return these settings; if they leave ``log_det_weight`` open, these with each of WEIGHTS."""
    if settings.log_det_weight is not None:
        return [settings]
    return [settings.model_copy(update={"log_det_weight": weight}) for weight in WEIGHTS]


def choose(candidates: Sequence[Settings], scores: Sequence[Mapping[str, Floats]]) -> int:
    """Return the index of the candidate whose ``scores`` rank ``synthetic`` best above ``clean``: see ``area``.

    Of equal ones it is the nearest to UNCHOSEN. Nothing is ranked if there is one candidate.
    """
    if len(candidates) == 1:
        return 0
    distance = [abs((settings.log_det_weight or 0.0) - UNCHOSEN) for settings in candidates]
    return max(range(len(candidates)), key=lambda i: (area(scores[i]), -distance[i], -i))


def chosen(net: AEFlow, normals: Features, anomalous: Features) -> tuple[Settings, dict[str, float]]:
    """Return the settings of ``net`` with ``log_det_weight`` chosen, and the AUROC of each candidate by its weight."""
    tried = candidates(net.settings)
    groups = {"clean": normals, "synthetic": anomalous}
    measured = measures_under(net, groups, [pair_of(settings) for settings in tried])
    scores = [scores_of(measures, settings) for measures, settings in zip(measured, tried, strict=True)]
    areas = {f"{settings.log_det_weight:g}": area(found) for settings, found in zip(tried, scores, strict=True)}
    return tried[choose(tried, scores)], areas


def pair_of(settings: Settings) -> tuple[float, float]:
    """Return the pair for ``measures_under`` of settings that leave nothing open."""
    assert settings.log_det_weight is not None
    return settings.log_det_weight, settings.top_share


def scores_of(measured: Mapping[str, Measures], settings: Settings) -> dict[str, Floats]:
    """Return the scores of each group from raw measures, calibrated on the clean normals themselves."""
    calibration = fit_calibration(settings, measured["clean"], maps={})
    return {name: calibration.value(calibration.terms(measures)) for name, measures in measured.items()}


def area(scores: Mapping[str, Floats]) -> float:
    """Return the AUROC of the synthetic anomalies against the clean normals."""
    return auroc(scores["clean"], scores["synthetic"])


def auroc(low: Floats, high: Floats) -> float:
    """Return the area by which the scores ``high`` (m,) rank above ``low`` (n,)."""
    return delong(np.r_[low, high], [0] * len(low) + [1] * len(high))[0]


def _numbers(x: torch.Tensor) -> Floats:
    numbers: Floats = x.cpu().double().numpy()
    return numbers
