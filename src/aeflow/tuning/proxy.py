"""What a choice of settings is ranked on where nothing may be chosen on a test split.

Groups of train images, each with its part::

    clean      held-out normals as they are
    shifted    the same as another scanner or export would have given them (``data.augment.recapture``)
    synthetic  the same with a synthetic anomaly each (``data.synthetic``)
    abnormal   real abnormal images of the train split, where there are any: whoever reports a choice declares them

Of the test split nothing is read but the names of its images and the manifest, to leave out its patients; a patient
whom only a file's header names is not recognised.
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
from aeflow.features.dataset import Features
from aeflow.imageio.errors import ImageError
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import Encoder
from aeflow.model.encoder_weights import pretrained
from aeflow.training import log_det_weight

ABNORMAL = 200  # train-side abnormal images, evenly drawn

FIGURES = {  # what a figure sets against what
    "clean, abnormal": (("clean",), "abnormal"),
    "shifted, abnormal": (("clean", "shifted"), "abnormal"),
    "clean, synthetic": (("clean",), "synthetic"),
    "shifted, synthetic": (("clean", "shifted"), "synthetic"),
}
READOUT = ("log_det_weight", "top_share", "beta", "two_sided")  # settings of the score that need no other weights


@dataclass(frozen=True, slots=True)
class Sides:
    """The train images that a choice is made on, before any is opened."""

    kept: list[Record]  # normals to train on
    held: list[Record]  # normals held out, the same as a training with these settings holds out
    abnormal: list[Record]  # of patients that are not in the test split

    @classmethod
    def of(cls, data: Path | str, settings: Settings) -> Self:
        """Of a data folder; raises DataError for too few normals."""
        listed = read_records(data)
        train = unfold([record for record in listed if record.split == "train"], settings.slice_axis)
        normals = of_label(train, 0, at_least=2, where=Path(data) / "train")
        kept, held = hold_out(normals, settings.held_out, settings.seed)
        on_test = {record.patient for record in listed if record.split == "test"}
        abnormal = leave_out_patients(of_label(train, 1), on_test)
        return cls(kept, held, evenly(abnormal, ABNORMAL))

    @property
    def measured(self) -> int:
        """How many images and changed images the proxy looks at."""
        changed = min(len(self.held), log_det_weight.MAX_ANOMALOUS)
        return len(self.held) + len(self.abnormal) + changed * (1 + log_det_weight.views_of(changed))


@dataclass(frozen=True, slots=True)
class Proxy:
    """The features of each group; they serve all models of one encoder, image size and split."""

    groups: dict[str, Features]
    stages: tuple[int, ...]  # of the encoder, as the features hold them
    refusals: list[tuple[Record, ImageError]]

    @classmethod
    def of(
        cls,
        data: Path | str,
        settings: Settings,
        *,
        encoder: Encoder | None = None,
        encoder_weights: Path | None = None,
        advance: Callable[[int], None] = lambda n: None,
    ) -> Self:
        """The proxy of a data folder; ``encoder`` may hold more stages than ``settings`` asks for.

        Everything is computed once and cached. Raises DataError where fewer than MIN_NORMALS held-out
        normals can be read.
        """
        encoder = encoder or pretrained(settings.encoder, settings.stages, encoder_weights)
        return cls.on(Sides.of(data, settings), settings, FeatureCache(encoder, settings.image_size), advance)

    @classmethod
    def on(
        cls, sides: Sides, settings: Settings, plain: FeatureCache, advance: Callable[[int], None] = lambda n: None
    ) -> Self:
        """The proxy of images that are known already; ``plain`` holds them, or will, as they are."""
        clean, refused = plain.features(sides.held, advance)
        if len(clean) < MIN_NORMALS:
            reason = f" (first refusal: {refused[0][1]})" if refused else ""
            needed = math.ceil(MIN_NORMALS / settings.held_out)
            found = f"{len(clean)} held-out images that can be read{reason}"
            raise DataError("train/normal", found, f"give at least {needed} normal images")
        abnormal, refused_abnormal = plain.features(sides.abnormal, advance)
        again = evenly(clean.records, log_det_weight.MAX_ANOMALOUS)
        shifted, _ = plain.changed_by(recapture).features(again, advance, view=1)
        synthetic = log_det_weight.anomalies(plain, clean, advance)
        groups = {"clean": clean, "shifted": shifted, "synthetic": synthetic, "abnormal": abnormal}
        return cls(groups, plain.encoder.stages, refusals_among([*refused, *refused_abnormal]))

    def figures(self, net: AEFlow) -> dict[str, float | None]:
        """The AUROC of each of FIGURES, None where there are no abnormal images.

        Scores are those of ``net.settings``, its terms' scale fitted on the clean normals.
        """
        return self.readings(net, [net.settings])[0]

    def readings(self, net: AEFlow, readouts: Sequence[Settings]) -> list[dict[str, float | None]]:
        """``figures`` under each of the settings, which may differ in READOUT; each image passes the network once.

        Where settings leave ``log_det_weight`` to be chosen, it is chosen as a training chooses it.
        """
        tried = [log_det_weight.candidates(one) for one in readouts]
        pairs = list(dict.fromkeys(log_det_weight.pair_of(one) for several in tried for one in several))
        at = [self.stages.index(stage) for stage in net.settings.stages]
        groups = {name: features.only(*at) for name, features in self.groups.items()}
        raw = dict(zip(pairs, log_det_weight.raw(net, groups, pairs), strict=True))
        found = []
        for several in tried:
            scores = [log_det_weight.scores_of(raw[log_det_weight.pair_of(one)], one) for one in several]
            found.append(areas(scores[log_det_weight.choose(several, scores)]))
        return found

    def thinned(self, most: int) -> Proxy:
        """The same of at most ``most`` images of each group, evenly drawn: for a glance at a model in training."""

        def some(features: Features) -> Features:
            records, contents, rows = features.records, features.contents, features.rows
            return replace(
                features, records=evenly(records, most), contents=evenly(contents, most), rows=evenly(rows, most)
            )

        return replace(self, groups={name: some(features) for name, features in self.groups.items()})

    def counts(self) -> dict[str, int]:
        """How many images each group has."""
        return {name: len(features) for name, features in self.groups.items()}


def value(figures: Mapping[str, float | None]) -> float:
    """The one number to maximise: the mean of those AUROCs that there are."""
    return float(np.mean([figure for figure in figures.values() if figure is not None]))


def areas(scores: Mapping[str, Floats]) -> dict[str, float | None]:
    """The AUROC of each of FIGURES from the scores of each group, None where there are no abnormal images."""

    def figure(normals: Sequence[str], against: str) -> float | None:
        low, high = np.concatenate([scores[name] for name in normals]), scores[against]
        return log_det_weight.auroc(low, high) if len(high) else None

    return {name: figure(*sides) for name, sides in FIGURES.items()}
