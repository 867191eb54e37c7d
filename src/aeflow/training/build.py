"""Network of a training before its weights are learnt: the score planned, all parts built and started by the seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from aeflow.config import Settings
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.described import Described
from aeflow.model.encoder_weights import pretrained
from aeflow.model.front import Front
from aeflow.model.regions.base import Region
from aeflow.training.fit_terms import described
from aeflow.training.learn_classes import LearntClasses
from aeflow.training.plan import fingerprint, plan_terms


def plan_score(
    cache: FeatureCache, kept: Features, settings: Settings
) -> tuple[Settings, tuple[str, ...], Described | None]:
    """Return the settings with the terms planned, the plan in words, and the described normals if positions are."""
    front = cache.encoder
    assert isinstance(front, Front)
    if not front.describes:
        return settings, (), None
    normals = described(front, kept)
    if settings.terms is not None:
        return settings, (f"terms as set: {', '.join(settings.terms)}",), normals
    plan = plan_terms(settings, fingerprint(normals, front.beside))
    axis = settings.mirror_axis or plan.mirror_axis
    planned = settings.model_copy(update={"terms": plan.terms, "mirror_axis": axis})
    return planned, plan.words, replace(normals, mirror_axis=axis)


def build_network(
    settings: Settings, learnt: LearntClasses | None, region: Region | None, weights: Path | None, on: torch.device
) -> AEFlow:
    """Return the network before its training, started by the seed, with the classes and region that were learnt."""
    mixture = learnt.classes.mixture if learnt is not None and learnt.classes is not None else None
    encoder = pretrained(settings.encoder, settings.encoder_stages, weights)
    torch.manual_seed(settings.seed)
    return AEFlow(settings, encoder, mixture, region).to(on)
