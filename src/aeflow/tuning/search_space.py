"""Search space of a tuning: settings that need a training each, and readouts of a trained model that need none."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from aeflow.config import Settings
from aeflow.model.decoders.transposed import halvings

# Readouts tried on every trained model, besides the preset's own: settings of the score that need no other weights.
READINGS: dict[str, tuple[Any, ...]] = {
    "log_det_weight": (None, 0.0, 0.5, 1.0),
    "top_share": (0.02, 0.05, 0.2, 1.0),
    "beta": (0.5, 0.8, 0.9, 1.0),
    "two_sided": (True, False),
}


class SearchSpace:
    """Settings around a preset's own, each within a factor of two or so, with the preset's own inside.

    ``strides`` are of all stages of the encoder. The deepest stage may be replaced by the next one, or joined by it.
    """

    def __init__(self, base: Settings, strides: Sequence[int]) -> None:
        self.base, self.strides = base, strides
        self.choices = _stages(base, strides)
        flow: dict[str, BaseDistribution] = {
            "stages": CategoricalDistribution([_text(stages) for stages in self.choices]),
            "flow_steps": IntDistribution(max(1, base.flow_steps // 2), min(64, base.flow_steps * 3 // 2)),
            "coupling": CategoricalDistribution(["affine", "additive"]),
            "clamp": FloatDistribution(base.clamp / 2, base.clamp * 2, log=True),
            "learning_rate": FloatDistribution(base.learning_rate / 4, base.learning_rate * 2, log=True),
            "augmented_views": IntDistribution(0, max(1, base.augmented_views)),
        }
        if base.subnet == "conv":
            flow["hidden"] = IntDistribution(max(1, base.hidden // 2), base.hidden * 2, log=True)
        if base.epochs is None:
            flow["updates"] = IntDistribution(max(1, base.updates // 2), base.updates * 2, log=True)
        self.distributions = flow

    @property
    def widest(self) -> Settings:
        """The preset with every stage that a trial may ask for: its encoder serves them all."""
        stages = {stage for stages in self.choices for stage in stages}
        return self.base.model_copy(update={"stages": tuple(sorted(stages))})

    def default(self) -> dict[str, Any]:
        """Return the preset's own settings, as parameters of a trial."""
        own = {name: getattr(self.base, name) for name in self.distributions}
        return {**own, "stages": _text(self.base.stages)}

    def settings(self, parameters: Mapping[str, Any]) -> Settings:
        """Return the settings of a trial; a transposed decoder's widths follow its deepest stage."""
        stages = tuple(int(stage) for stage in parameters["stages"].split(","))
        changes = {**parameters, "stages": stages}
        if self.base.decoder_type == "transposed":
            changes["decoder"] = _widths(self.base, self.strides[self.base.stages[-1]], self.strides[stages[-1]])
        return Settings(**{**self.base.model_dump(), **changes})

    def readings(self, settings: Settings) -> list[Settings]:
        """Return the readouts to try on a model of these settings.

        Its own is first, so that it wins if others are no better.
        """
        left_out = {"two_sided"} if not settings.standardise else set()
        left_out |= set() if "reconstruction" in settings.chosen_terms else {"beta", "two_sided"}
        names = [name for name in READINGS if name not in left_out]
        found = [settings]
        for values in itertools.product(*(READINGS[name] for name in names)):
            readout = settings.model_copy(update=dict(zip(names, values, strict=True)))
            # without a weight for the reconstruction, its sidedness makes no difference
            repeated = readout.beta == 1.0 and readout.two_sided != settings.two_sided
            if readout not in found and not repeated:
                found.append(readout)
        return found


def _text(stages: Sequence[int]) -> str:
    """Return stages as one text, which Optuna can store."""
    return ",".join(map(str, stages))


def _stages(base: Settings, strides: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the preset's stages, the one next to the deepest, and all of these together."""
    deepest = base.stages[-1]
    near = deepest + 1 if deepest + 1 < len(strides) else deepest - 1
    found = [base.stages, (near,), tuple(sorted({*base.stages, near}))]
    fits = [all(stage >= 0 and base.image_size % strides[stage] == 0 for stage in stages) for stages in found]
    return [stages for i, (stages, fit) in enumerate(zip(found, fits, strict=True)) if fit and stages not in found[:i]]


def _widths(base: Settings, stride: int, wanted: int) -> tuple[int, ...]:
    """Return the decoder's widths for another stride: layers are added or removed at the latent's end."""
    widths = list(base.decoder)
    missing = halvings(wanted) - halvings(stride)
    for _ in range(missing):
        widths.insert(0, 2 * (widths or [8])[0])
    return tuple(widths[max(0, -missing) :])
