"""Training of model after model on the same images, each measured by the proxy; nothing is decoded or encoded twice."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from aeflow.config import Settings
from aeflow.data.records import Refusals
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import Encoder
from aeflow.runtime.progress import bar
from aeflow.training.loop import Material, fit_network
from aeflow.tuning.proxy import Proxy, Sides, value
from aeflow.tuning.search_space import SearchSpace

Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """Figures of the proxy for a trained model under one readout."""

    settings: Settings
    figures: Figures

    @property
    def value(self) -> float:
        """Number that is maximised."""
        return value(self.figures)

    def to_json(self) -> dict[str, Any]:
        """Return value and figures."""
        return {"value": self.value, "figures": self.figures}


@dataclass(frozen=True, slots=True)
class TrialTrainer:
    """Train normals in all views that a trial may ask for, the proxy, and the frozen encoder."""

    space: SearchSpace
    encoder: Encoder
    views: list[Features]
    proxy: Proxy
    refusals: Refusals

    @classmethod
    def of(cls, data: Path | str, space: SearchSpace, encoder: Encoder, seed: int) -> Self:
        """Return the trainer for a data folder, as ``seed`` splits its train normals; raises DataError for too few."""
        settings = space.base.model_copy(update={"seed": seed})
        sides = Sides.of(data, settings)
        views = range(1 + getattr(space.distributions["augmented_views"], "high", 0))
        cache = FeatureCache.of(encoder, settings)
        with bar("Features", len(views) * len(sides.kept) + sides.measured) as advance:
            found = [cache.features(sides.kept, advance, view) for view in views]
            proxy = Proxy.on(sides, settings, cache, advance)
        refusals = [*found[0][1], *proxy.refusals]
        return cls(space, encoder, [features for features, _ in found], proxy, refusals)

    def train(
        self,
        settings: Settings,
        scratch: Path,
        after_epoch: Callable[[AEFlow, int, int], None] = lambda net, epoch, epochs: None,
    ) -> AEFlow:
        """Train a model with these settings, as ``training.train`` does; raises NumericalError."""
        torch.manual_seed(settings.seed)
        net = AEFlow(settings, self.encoder).to(self.encoder.mean.device)
        at = [self.encoder.stages.index(stage) for stage in settings.stages]
        views = [view.only(*at) for view in self.views[: 1 + settings.augmented_views]]
        held = self.proxy.groups["clean"].only(*at)
        nothing = Features([], [], [], held.shapes, held.given)
        shutil.rmtree(scratch, ignore_errors=True)  # remains of a killed trial
        scratch.mkdir()
        try:
            material = Material(views, held, nothing)
            fit_network(net, settings, scratch, material, False, after_epoch=lambda *now: after_epoch(net, *now))
        finally:
            shutil.rmtree(scratch)
        return net

    def readings(self, net: AEFlow) -> list[Reading]:
        """Return the readings of a model under all readouts, its own first."""
        readouts = self.space.readings(net.settings)
        pairs = zip(readouts, self.proxy.readings(net, readouts), strict=True)
        return [Reading(settings, figures) for settings, figures in pairs]

    def fingerprint(self) -> str:
        """Return the SHA-256 over the content of all images, and the group of each."""
        contents = [self.views[0].contents, {name: group.contents for name, group in self.proxy.groups.items()}]
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()
