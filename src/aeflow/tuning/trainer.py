"""Training of model after model on the same images, each measured by the proxy; nothing is decoded or encoded twice."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from aeflow.config import Settings
from aeflow.data.records import Refusals
from aeflow.errors import SettingsError
from aeflow.features.arithmetic import Arithmetic
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import Encoder
from aeflow.model.front import Front
from aeflow.runtime.progress import bar
from aeflow.training.build import plan_score
from aeflow.training.find_region import find_region
from aeflow.training.fit_decoder import paint
from aeflow.training.fit_terms import fit_terms, images_of
from aeflow.training.loop import Material, fit_network
from aeflow.tuning.proxy import Proxy, Sides, of_stages, value
from aeflow.tuning.search_space import SearchSpace

Figures = dict[str, float | None]


def spent(when: str) -> SettingsError:
    """Return the error for a budget that ended before there was any result."""
    return SettingsError("--budget", f"it ended {when}", "give a larger one: the same command goes on from there")


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
    """Train normals in all views that a trial may ask for, the proxy, and what the trials share."""

    space: SearchSpace
    front: Front  # of every stage that a trial may ask for
    planned: AEFlow  # with the terms that are planned for these normals, fitted; trials take them over
    views: list[Features]
    proxy: Proxy
    refusals: Refusals
    arithmetic: Arithmetic

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self.front.encoder

    @classmethod
    def of(cls, data: Path | str, space: SearchSpace, encoder: Encoder, seed: int, ends: float = math.inf) -> Self:
        """Return the trainer for a data folder, as ``seed`` splits its train normals; raises DataError for too few.

        SettingsError if the time is spent, by ``time.perf_counter`` at ``ends``, before all features are computed.
        """
        settings = space.base.model_copy(update={"seed": seed})
        sides = Sides.of(data, settings)
        views = range(1 + getattr(space.distributions["augmented_views"], "high", 0))
        region = find_region(data, None, sides.kept, settings, encoder)
        widest = space.widest
        if not widest.describes:  # all that the encoder gives is a flow's
            widest = widest.model_copy(update={"stages": encoder.stages})
        front = Front(encoder, region, widest)
        images = len(views) * len(sides.kept) + sides.measured
        synthetic = images_of(len(sides.kept)) if widest.describes else 0
        arithmetic = Arithmetic.of(encoder.mean.device, images + synthetic)
        cache = FeatureCache.of(front, settings, arithmetic=arithmetic)
        with bar("Features", images) as advance:

            def counted(n: int) -> None:
                advance(n)
                if time.perf_counter() > ends:
                    raise spent("before all features were computed")

            found = [cache.features(sides.kept, counted, view) for view in views]
            proxy = Proxy.on(sides, settings, cache, counted)
        refusals = [*found[0][1], *proxy.refusals]
        kept = [features for features, _ in found]
        planned, _, normals = plan_score(cache, kept[0], widest.model_copy(update={"seed": seed}))
        if "flow" not in planned.chosen_terms:
            found_terms = f"the score sums {', '.join(planned.chosen_terms)}, and none of them is trained"
            raise SettingsError("looks_for", found_terms, "there is nothing to tune; train with the preset")
        if normals is None:  # no term is fitted before the trials, whatever their stages
            planned = planned.model_copy(update={"stages": space.base.stages})
        net = AEFlow(planned, encoder, region=region).to(encoder.mean.device)
        if normals is not None:
            fit_terms(net, kept, normals, seed, arithmetic)
        return cls(space, front, net, kept, proxy, refusals, arithmetic)

    def train(
        self,
        settings: Settings,
        scratch: Path,
        after_epoch: Callable[[AEFlow, int, int], None] = lambda net, epoch, epochs: None,
    ) -> AEFlow:
        """Train a model with these settings, as ``training.train`` does; raises NumericalError."""
        net = self.network(settings)
        views = [of_stages(view, self.front.stages, net.front.stages) for view in self.views]
        views = views[: 1 + settings.augmented_views]
        held = of_stages(self.proxy.groups["clean"], self.front.stages, net.front.stages)
        if "reconstruction" in net.terms:
            paint(net, views[0], settings.seed)
        nothing = Features([], [], [], held.shapes, held.given)
        shutil.rmtree(scratch, ignore_errors=True)  # remains of a killed trial
        scratch.mkdir()
        try:
            material = Material(views, held, nothing)
            fit_network(net, net.settings, scratch, material, False, after_epoch=lambda *now: after_epoch(net, *now))
        finally:
            shutil.rmtree(scratch)
        return net

    def network(self, settings: Settings) -> AEFlow:
        """Return the network of a trial before its training, with the planned terms as they were fitted."""
        planned = {name: getattr(self.planned.settings, name) for name in ("terms", "mirror_axis")}
        torch.manual_seed(settings.seed)
        net = AEFlow(settings.model_copy(update=planned), self.encoder, region=self.front.region)
        for name in {*net.terms} - {"flow", "reconstruction"}:
            net.terms[name].load_state_dict(self.planned.terms[name].state_dict())
        return net.to(self.encoder.mean.device)

    def readings(self, net: AEFlow) -> list[Reading]:
        """Return the readings of a model under all readouts, its own first."""
        readouts = self.space.readings(net.settings)
        pairs = zip(readouts, self.proxy.readings(net, readouts), strict=True)
        return [Reading(settings, figures) for settings, figures in pairs]

    def fingerprint(self) -> str:
        """Return the SHA-256 over the content of all images, and the group of each."""
        contents = [self.views[0].contents, {name: group.contents for name, group in self.proxy.groups.items()}]
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()
