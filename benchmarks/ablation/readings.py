"""Measures of a trained model on each group of images, kept so that another reading needs no second pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aeflow._types import Floats
from aeflow.config import Settings
from aeflow.data.augment import Change, recapture
from aeflow.data.synthetic_anomalies import synthetic
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.features.device_batches import Feed
from aeflow.metrics.intervals import delong
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import Encoder
from aeflow.model.pooling import unit_length
from aeflow.model.ssim import ssim
from aeflow.model.terms.top_mean import top_mean
from aeflow.training import log_det_weight
from aeflow.tuning import proxy

Groups = Mapping[str, Features]
CHANGES: dict[str, Change] = {"shifted": recapture, "synthetic": synthetic}  # makes the groups that are not on disk


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's measures of the n images of a group."""

    log_prob: list[Tensor]  # (n, h, w) of each stage, per dimension
    log_det: list[Tensor]
    distances: dict[str, Floats]  # (n,) between image and reconstruction: ssim, mse and, if asked for, features


@torch.no_grad()
def measure(net: AEFlow, groups: Groups, of_features: bool = False) -> dict[str, Measured]:
    """Return the measures of each group; ``of_features`` passes each reconstruction through the encoder, too."""
    net.eval()
    at = [net.encoder.stages.index(stage) for stage in net.settings.stages]
    device = next(net.parameters()).device
    return {name: _measure(net, Feed(one.only(*at), device), of_features) for name, one in groups.items()}


def _measure(net: AEFlow, feed: Feed, of_features: bool) -> Measured:
    log_prob: list[list[Tensor]] = [[] for _ in net.settings.stages]
    log_det: list[list[Tensor]] = [[] for _ in net.settings.stages]
    distances: dict[str, list[Tensor]] = {}
    prior: Any = net.prior
    for z, x in feed.batches(net.settings.batch_size):
        encoded = net.encoded(z, x)
        latent = net.encode(encoded)
        assert latent is not None, "every row has a flow"
        x_hat = net.decode(net.code(encoded, latent))
        for stage, (u, det) in enumerate(zip(latent.u, latent.log_det, strict=True)):
            log_prob[stage].append(prior.log_prob(u).cpu() / u.shape[1])
            log_det[stage].append(det.cpu() / u.shape[1])
        found = {"ssim": 1 - ssim(x, x_hat), "mse": (x_hat - x).square().mean(dim=(1, 2, 3))}
        if of_features:
            found["features"] = feature_distance(z, net.encoder_features(x_hat, net.settings.stages))
        for name, distance in found.items():
            distances.setdefault(name, []).append(distance.cpu())
    return Measured(
        [torch.cat(of_stage) for of_stage in log_prob],
        [torch.cat(of_stage) for of_stage in log_det],
        {name: torch.cat(one).double().numpy() for name, one in distances.items()},
    )


def feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Return ``|a / |a| - b / |b||^2``, the mean over positions and stages, of features (B, C, h, w); (B,)."""
    pairs = zip(a, b, strict=True)
    return torch.stack([(unit_length(x) - unit_length(y)).square().mean(dim=(1, 2, 3)) for x, y in pairs]).mean(dim=0)


def scores(measured: Mapping[str, Measured], settings: Settings, how: str = "") -> dict[str, Floats]:
    """Return the scores of each group, as settings and ``how`` read the measures; calibrated on the clean normals.

    A ``log_det_weight`` that the settings leave open is chosen as a training chooses it.
    """
    tried = log_det_weight.candidates(settings)
    found = [_scores(measured, one, how) for one in tried]
    return found[log_det_weight.choose(tried, found)]


def _scores(measured: Mapping[str, Measured], settings: Settings, how: str) -> dict[str, Floats]:
    weight, share = log_det_weight.pair_of(settings)
    normals = _maps(measured["clean"], weight)
    raw = {}
    for name, one in measured.items():
        maps = _maps(one, weight)
        if how == "positions":
            maps = [per_position(m, of_normals) for m, of_normals in zip(maps, normals, strict=True)]
        if how == "rim":
            maps = [m[:, 1:-1, 1:-1] for m in maps]
        flow = torch.stack([top_mean(m, share) for m in maps], dim=1)
        distance = one.distances["features" if how == "features" else settings.reconstruction]
        raw[name] = {"flow": flow.double().numpy(), "reconstruction": distance}
    return log_det_weight.scores_of(raw, settings)


def _maps(measured: Measured, weight: float) -> list[Tensor]:
    """Return ``AEFlow.negative_log_likelihood`` of each stage, (n, h, w)."""
    pairs = zip(measured.log_prob, measured.log_det, strict=True)
    return [-(log_prob + weight * log_det) for log_prob, log_det in pairs]


def per_position(maps: Tensor, normals: Tensor) -> Tensor:
    """Standardise maps (n, h, w) by mean and spread of ``normals`` (m, h, w) at each position."""
    return (maps - normals.mean(dim=0)) / normals.std(dim=0).clamp_min(1e-6)


def averaged(several: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Return the mean of several scores of the same images, each in standard deviations of the clean normals."""
    standard = [
        {name: (values - one["clean"].mean()) / one["clean"].std(ddof=1) for name, values in one.items()}
        for one in several
    ]
    return {name: np.mean([one[name] for one in standard], axis=0) for name in several[0]}


def figures(scores: Mapping[str, Floats], labels: Sequence[int]) -> dict[str, float | None]:
    """Return the proxies, their mean as ``value``, and the AUROC on the ``test`` split, which has these labels."""
    proxies = proxy.areas(scores)
    return {**proxies, "value": proxy.value(proxies), "test": delong(scores["test"], labels)[0]}


def mirrored(groups: Groups, encoder: Encoder, image_size: int) -> dict[str, Features]:
    """Return the features of the mirror image of each image of each group."""
    found = {}
    for name, features in groups.items():
        cache = FeatureCache(encoder, image_size, change=mirror_of(CHANGES.get(name, as_it_is)))
        # An image that was changed several times stands in the group once for each, view after view.
        images = groups["shifted"].records if name == "synthetic" else features.records
        views = range(1, 1 + len(features) // len(images))
        first, *others = [cache.features(images, view=view)[0] for view in views]
        found[name] = first.and_also(others)
    return found


def mirror_of(change: Change) -> Change:
    """Return the change followed by left for right."""

    def mirrored(pixels: NDArray[np.float32], key: str) -> NDArray[np.float32]:
        return np.ascontiguousarray(change(pixels, key)[:, :, ::-1])

    mirrored.__name__ = f"mirror of {change.__name__}"  # the cache tells changes apart by it
    return mirrored


def as_it_is(pixels: NDArray[np.float32], key: str) -> NDArray[np.float32]:
    """Return the image itself."""
    return pixels
