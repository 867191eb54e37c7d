"""Proxy figures from train images, on which settings are ranked: nothing may be chosen on a test split.

Groups of train images, each with a purpose::

    clean      held-out normals as they are
    shifted    the same as another scanner or export would have given them (``data.augment.recapture``)
    synthetic  the same with a synthetic anomaly each (``data.synthetic_anomalies``)
    abnormal   real abnormal images of the train split, if any; a report of the choice must declare them

Of the test split only the names of its images and the manifest are read, to leave out its patients; a patient who is
named only in a file's header is not recognised. A readout is a way to score with a trained model (READOUT): it needs no
other weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from aeflow._types import Floats
from aeflow.calibration.calibration import MIN_NORMALS
from aeflow.config import Settings
from aeflow.data.augment import recapture
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.slices import refusals_among, unfold
from aeflow.data.splits import evenly, hold_out, leave_out_patients
from aeflow.errors import DataError
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.imageio.errors import ImageError
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import pretrained
from aeflow.model.front import Front
from aeflow.training import log_det_weight
from aeflow.training.find_region import find_region

MAX_ABNORMAL = 200  # abnormal train images, evenly drawn

FIGURES = {  # figure -> groups of normals, group that is set against them
    "clean, abnormal": (("clean",), "abnormal"),
    "shifted, abnormal": (("clean", "shifted"), "abnormal"),
    "clean, synthetic": (("clean",), "synthetic"),
    "shifted, synthetic": (("clean", "shifted"), "synthetic"),
}
READOUT = ("log_det_weight", "top_share", "beta", "two_sided")  # settings of the score that need no other weights


@dataclass(frozen=True, slots=True)
class Sides:
    """Train images on which a choice is made, before any is opened."""

    kept: list[Record]  # normals to train on
    held: list[Record]  # normals held out, the same as a training with these settings holds out
    abnormal: list[Record]  # of patients that are not in the test split

    @classmethod
    def of(cls, data: Path | str, settings: Settings) -> Self:
        """Return the sides of a data folder; raises DataError for too few normals."""
        listed = read_records(data)
        train = unfold([record for record in listed if record.split == "train"], settings.slice_axis)
        normals = of_label(train, 0, at_least=2, where=Path(data) / "train")
        kept, held = hold_out(normals, settings.held_out, settings.seed)
        on_test = {record.patient for record in listed if record.split == "test"}
        abnormal = leave_out_patients(of_label(train, 1), on_test)
        return cls(kept, held, evenly(abnormal, MAX_ABNORMAL))

    @property
    def measured(self) -> int:
        """Number of images and changed images that the proxy measures."""
        changed = min(len(self.held), log_det_weight.MAX_ANOMALOUS)
        return len(self.held) + len(self.abnormal) + changed * (1 + log_det_weight.views_of(changed))


@dataclass(frozen=True, slots=True)
class Proxy:
    """Features of each group; they serve all models of one encoder, image size and split."""

    groups: dict[str, Features]
    stages: tuple[int, ...]  # of the encoder, as the features hold them
    refusals: list[tuple[Record, ImageError]]

    @classmethod
    def of(
        cls,
        data: Path | str,
        settings: Settings,
        *,
        encoder_weights: Path | None = None,
        advance: Callable[[int], None] = lambda n: None,
    ) -> Self:
        """Return the proxy of a data folder; models may read fewer stages than ``settings`` ask for.

        Everything is computed once and cached. Raises DataError if fewer than MIN_NORMALS held-out normals can be read.
        """
        encoder = pretrained(settings.encoder, settings.encoder_stages, encoder_weights)
        sides = Sides.of(data, settings)
        front = Front(encoder, find_region(data, None, sides.kept, settings, encoder), settings)
        return cls.on(sides, settings, FeatureCache(front, settings.image_size), advance)

    @classmethod
    def on(
        cls, sides: Sides, settings: Settings, plain: FeatureCache, advance: Callable[[int], None] = lambda n: None
    ) -> Self:
        """Return the proxy of images that are listed already; ``plain`` is the cache of their unchanged features."""
        clean, refused = plain.features(sides.held, advance)
        if len(clean) < MIN_NORMALS:
            reason = f" (first refusal: {refused[0][1]})" if refused else ""
            needed = math.ceil(MIN_NORMALS / settings.held_out)
            found = f"{len(clean)} held-out images that can be read{reason}"
            raise DataError("train/normal", found, f"give at least {needed} normal images")
        abnormal, refused_abnormal = plain.features(sides.abnormal, advance)
        chosen = evenly(clean.records, log_det_weight.MAX_ANOMALOUS)
        shifted, _ = plain.changed_by(recapture).features(chosen, advance, view=1)
        synthetic = log_det_weight.anomalies(plain, clean, advance)
        groups = {"clean": clean, "shifted": shifted, "synthetic": synthetic, "abnormal": abnormal}
        return cls(groups, plain.encoder.stages, refusals_among([*refused, *refused_abnormal]))

    def figures(self, net: AEFlow) -> dict[str, float | None]:
        """Return the AUROC of each of FIGURES, None if there are no abnormal images.

        The scores follow ``net.settings``, with the terms' scale fitted on the clean normals.
        """
        return self.readings(net, [net.settings])[0]

    def readings(self, net: AEFlow, readouts: Sequence[Settings]) -> list[dict[str, float | None]]:
        """Return ``figures`` under each of the settings, which may differ in READOUT.

        Each image passes the network once. If settings leave ``log_det_weight`` open, it is chosen as a training
        chooses it.
        """
        planned = {name: getattr(net.settings, name) for name in ("terms", "mirror_axis")}
        tried = [log_det_weight.candidates(settings.model_copy(update=planned)) for settings in readouts]
        pairs = list(dict.fromkeys(log_det_weight.pair_of(settings) for several in tried for settings in several))
        groups = {name: of_stages(features, self.stages, net.front.stages) for name, features in self.groups.items()}
        raw = dict(zip(pairs, log_det_weight.measures_under(net, groups, pairs), strict=True))
        found = []
        for several in tried:
            scores = [log_det_weight.scores_of(raw[log_det_weight.pair_of(settings)], settings) for settings in several]
            found.append(areas(scores[log_det_weight.choose(several, scores)]))
        return found

    def thinned(self, most: int) -> Proxy:
        """Return the same with at most ``most`` images of each group, evenly drawn: for a quick look in a training."""
        return replace(self, groups={name: features.thinned(most) for name, features in self.groups.items()})

    def counts(self) -> dict[str, int]:
        """Return the number of images in each group."""
        return {name: len(features) for name, features in self.groups.items()}


def of_stages(features: Features, held: Sequence[int], stages: Sequence[int]) -> Features:
    """Return features of a front that gives the stages ``held`` as one that gives ``stages`` would; the rest stays."""
    rest = range(len(held), len(features.shapes))  # region, box and description, if there are any
    return features.only(*(held.index(stage) for stage in stages), *rest)


def value(figures: Mapping[str, float | None]) -> float:
    """Return the one number to maximise: the mean of the AUROCs that are defined."""
    return float(np.mean([figure for figure in figures.values() if figure is not None]))


def areas(scores: Mapping[str, Floats]) -> dict[str, float | None]:
    """Return the AUROC of each of FIGURES from the scores of each group, None if there are no abnormal images."""

    def figure(normals: Sequence[str], against: str) -> float | None:
        """Return the AUROC of one group against others."""
        low, high = np.concatenate([scores[name] for name in normals]), scores[against]
        return log_det_weight.auroc(low, high) if len(high) else None

    return {name: figure(*sides) for name, sides in FIGURES.items()}
