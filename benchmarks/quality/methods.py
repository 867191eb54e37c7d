"""Rows of the quality table: each method, its seeds, and every setting that decides its scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aeflow.config import LARGE, PAPER, Settings, make_settings
from aeflow.data.records import Record
from aeflow.model.encoder_weights import EMBEDDED
from benchmarks.common import BRAIN, CHEST, SETS

FIVE, ONE = (0, 1, 2, 3, 4), (0,)

# Settings of the preset aeflow-1 that a control reads: features, split, and how long to train.
FITTED_WITH = (
    *("encoder", "stages", "image_size", "unit_features", "positions", "decoder", "held_out", "augmented_views"),
    *("batch_size", "epochs", "updates", "patience", "learning_rate", "schedule", "weight_decay", "max_grad_norm"),
)

Group = Literal["aeflow", "labels", "control", "trivial", "peer"]


@dataclass(frozen=True, slots=True)
class Method:
    """One training or one fit a seed; it may give several rows, each named by the method's name and an ending."""

    name: str
    group: Group
    seeds: Sequence[int] = FIVE
    preset: str = "aeflow-1"  # labels and controls read the features of AE-FLOW's two terms
    settings: dict[str, Any] = field(default_factory=dict)  # changes of the preset; all settings of other methods
    sets: Sequence[str] = SETS  # that it is for
    rows: tuple[str, ...] = ("",)
    trained_as_flow: bool = False  # a control on the features and views that aeflow-1's flow is trained on

    def settings_of(self, seed: int) -> Settings:
        """Return the settings of aeflow; for a control those of the features and of the split."""
        changes = self.settings if self.group in ("aeflow", "labels") else {}
        return make_settings(self.preset, seed=seed, **changes)

    def digest(self, records: Sequence[Record]) -> str:
        """Return the digest that kept results must have, of any seed: these settings on these images."""
        images = [[record.name, record.split, record.label] for record in records]
        fitted = {*FITTED_WITH, *(("view_reach",) if self.trained_as_flow else ())}
        read = fitted if self.group in ("control", "trivial", "peer") else None  # None: all settings
        decides = [self.settings_of(0).model_dump(mode="json", include=read), self.settings, images]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]

    @property
    def features(self) -> str:
        """Return the name of the frozen features that it shares with every other method of this name."""
        if self.group in ("control", "trivial") and not self.trained_as_flow:
            return "controls"
        settings = self.settings_of(0)
        return f"{settings.encoder}, {settings.image_size} px, region {settings.region}"

    @property
    def names(self) -> list[str]:
        """Return the names of its rows."""
        return [self.name + row for row in self.rows]


# The published design, but for the encoder and what depends on it: 112 channels at stride 16 instead of 1024, and a
# decoder that halves them as the published one does. Its 100 epochs are stopped 5 epochs after the best held-out loss.
EMBEDDED_PAPER: dict[str, Any] = {"encoder": EMBEDDED, "decoder": (56, 28, 14), "patience": 5}
WIDE = "paper, Wide ResNet-50-2"

# Cheapest and most telling first.
METHODS = (
    Method("default", "aeflow", preset="default"),
    Method("lungs, diffuse", "aeflow", FIVE, "default", {"region": "lungs", "looks_for": "diffuse"}, (CHEST,)),
    Method("lungs, unknown", "aeflow", FIVE, "default", {"region": "lungs"}, (CHEST,)),
    Method("focal", "aeflow", FIVE, "default", {"looks_for": "focal"}, (BRAIN,)),
    Method("large", "aeflow", preset="large"),
    Method("aeflow-1", "aeflow"),
    Method("aeflow-1, large encoder", "aeflow", settings=LARGE),
    Method("file size", "trivial", ONE),
    Method("all abnormal", "trivial", ONE),
    Method("raw intensity", "trivial", ONE),
    Method("Gaussian per position, stride 16", "control", settings={"at": [1], "shrinkage": 0.1}),
    Method("Gaussian per position, stride 32", "control", settings={"at": [2], "shrinkage": 0.1}),
    Method(
        "Gaussian per position, stride 16, unit length", "control", settings={"at": [1], "shrinkage": 0.1, "unit": True}
    ),
    Method("nearest vectors", "control", settings={"at": [1, 2], "neighbours": 5}),
    Method("nearest patches", "control", settings={"at": [1], "bank": 10_000, "average": 3}),
    Method("FlowGMM, 10 labels", "labels", settings={"labels": 10}),
    Method("FlowGMM, 100 labels", "labels", settings={"labels": 100}),
    Method("plain autoencoder", "control", rows=(", MSE", ", SSIM"), trained_as_flow=True),
    # Yu et al. 2021: flows on three stages, 3x3 and 1x1 kernels in turn, as wide as their input; Adam with these.
    Method(
        "FastFlow-style flow",
        "control",
        settings={"at": [0, 1, 2], "steps": 8, "clamp": 2.0, "learning_rate": 1e-3, "weight_decay": 1e-5},
    ),
    Method("anomalib PaDiM", "peer", ONE, settings={"n_features": 100}),
    Method("anomalib PatchCore", "peer", ONE, settings={"images": 200, "coreset": 0.01}),
    Method("anomalib FastFlow", "peer", ONE, settings={"epochs": 4}),
    Method("paper, embedded encoder", "aeflow", FIVE, "paper", EMBEDDED_PAPER),
    Method(WIDE, "aeflow", ONE, "paper", {"patience": 5}),
)
BY_NAME = {method.name: method for method in METHODS}
GROUPS: dict[str, Group] = {name: method.group for method in METHODS for name in method.names}
NOT_PUBLISHED = sorted(name for name, value in EMBEDDED_PAPER.items() if PAPER[name] != value)
