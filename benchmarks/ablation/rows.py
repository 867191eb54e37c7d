"""Rows of the ablation: the change of the preset aeflow-1 that each makes, the most telling first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aeflow.config import Settings, make_settings
from aeflow.data.records import Record

# Readings for which aeflow has no setting.
HOW = {
    "features": "distance of the encoder's features of image and reconstruction in place of SSIM",
    "positions": "each position of the flow's map in standard deviations of held-out normals there",
    "rim": "the outermost row of positions on each side left out of the flow's map",
    "mirror": "mean of the scores of the image and of its mirror image",
    "seeds": "mean of the scores of models of several seeds, trained on the same images",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A choice other than the default's: another training, or another reading of the default's weights."""

    name: str
    trained: dict[str, Any] = field(default_factory=dict)  # settings that need a training of their own
    read: dict[str, Any] = field(default_factory=dict)  # settings that read its weights another way
    how: str = ""  # one of HOW
    against: str = "default"  # the row that its figures are compared with

    @property
    def around(self) -> dict[str, Any]:
        """Return the changes of the row that it is compared with."""
        return BY_NAME[self.against].trained

    @property
    def changes(self) -> str:
        """Return its changes in words."""
        settings = [f"{name} {_text(value)}" for name, value in {**self.trained, **self.read}.items()]
        return ", ".join([*settings, *([HOW[self.how]] if self.how else [])]) or "nothing"

    def model(self, base: dict[str, Any], seed: int) -> Settings:
        """Return the settings of the model, around PRESET with the changes ``base``."""
        return make_settings(PRESET, **{**base, **self.around, **self.trained, "seed": seed})

    def settings(self, base: dict[str, Any], seed: int) -> Settings:
        """Return the settings of model and score."""
        return make_settings(PRESET, **{**base, **self.around, **self.trained, **self.read, "seed": seed})

    def digest(self, base: dict[str, Any], records: Sequence[Record], seeds: Sequence[int]) -> str:
        """Return the digest that kept figures must have: this row on these images, averaged over ``seeds``."""
        images = [[record.name, record.split, record.label] for record in records]
        averaged = list(seeds) if self.how == "seeds" else []
        decides = [self.settings(base, 0).model_dump(mode="json"), self.how, averaged, images]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def _text(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


DEFAULT = "default"  # the row without a change
PRESET = "aeflow-1"  # whose choices are measured: the rows are ones of flow and reconstruction
NARROW = "views half as far"
HIGHEST = 1e-6  # a share of the positions that leaves one


def before(name: str, **trained: Any) -> Row:
    """Return a row measured before the views reached as far as they do; it is compared with the preset of that time."""
    return Row(name, trained, against=NARROW)


ROWS = (
    Row(DEFAULT),
    Row("no log-determinant, all positions", read={"log_det_weight": 0.0, "top_share": 1.0}),
    Row("no log-determinant", read={"log_det_weight": 0.0}),
    Row("a quarter of the log-determinant", read={"log_det_weight": 0.25}),
    Row("half of the log-determinant", read={"log_det_weight": 0.5}),
    Row("three quarters of the log-determinant", read={"log_det_weight": 0.75}),
    Row("whole log-determinant, highest 5 %", read={"log_det_weight": 1.0}),
    Row("all positions", read={"top_share": 1.0}),
    Row("highest 20 %", read={"top_share": 0.2}),
    Row("highest 2 %", read={"top_share": 0.02}),
    Row("the single highest position", read={"top_share": HIGHEST}),
    Row("reconstruction left out", read={"beta": 1.0}),
    Row("reconstruction counts half", read={"beta": 0.5}),
    Row("reconstruction alone", read={"beta": 0.0}),
    Row("reconstruction counted one way", read={"two_sided": False}),
    Row("squared error", read={"reconstruction": "mse"}),
    Row("squared error alone", read={"reconstruction": "mse", "beta": 0.0}),
    Row("feature distance", how="features"),
    Row("feature distance alone", read={"beta": 0.0}, how="features"),
    Row("maps standardised per position", how="positions"),
    Row("rim left out", how="rim"),
    Row("mirror image averaged in", how="mirror"),
    Row("several seeds averaged", how="seeds"),
    Row("no augmented view", {"augmented_views": 0}),
    Row(NARROW, {"view_reach": 1.0}),
    Row("views half as far again", {"view_reach": 3.0}),
    before("3 augmented views", augmented_views=3),
    before("features as they are", unit_features=False),
    before("positions unknown to flow and decoder", positions=False),
    before("stride 32", stages=(4,), decoder=(64, 32, 16, 8)),
    before("strides 16 and 32", stages=(3, 4), decoder=(64, 32, 16, 8)),
    before("stride 8", stages=(2,), decoder=(16, 8)),
    before("additive couplings", coupling="additive"),
    before("4 steps", flow_steps=4),
    before("alpha 0.1", alpha=0.1),
    before("288 pixels", image_size=288),
    before("EfficientNet-Lite1", encoder="tf_efficientnet_lite1"),
    Row("alpha 0.9", {"alpha": 0.9}),
    Row("16 steps", {"flow_steps": 16}),
    Row("160 pixels", {"image_size": 160}),
    Row("EfficientNet-Lite2", {"encoder": "tf_efficientnet_lite2"}),
    Row("ResNet sub-networks", {"subnet": "resnet"}),
)
BY_NAME = {row.name: row for row in ROWS}


def stages_of(base: dict[str, Any], encoder: str, image_size: int) -> tuple[int, ...]:
    """Return every stage that some row reads of an encoder at one image size, so that all share its features."""
    models = [row.model(base, 0) for row in ROWS]
    same = [model for model in models if (model.encoder, model.image_size) == (encoder, image_size)]
    return tuple(sorted({stage for model in same for stage in model.stages}))
