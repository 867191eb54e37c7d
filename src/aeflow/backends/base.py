"""What every backend is to the rest: pixels in, raw measures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from aeflow.model import names

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Raw:
    """The raw measures of a batch, before calibration; ``maps`` and ``x_hat`` only if they were asked for."""

    flow: Doubles  # (B, stages)
    reconstruction: Doubles  # (B,)
    log_ratios: Doubles | None  # (B, kinds) where the model has classes
    traits: Doubles  # (B, T), see ``model.traits``
    maps: dict[str, Floats]  # (B, H, W) each
    x_hat: Floats | None  # (B, 3, H, W)

    @classmethod
    def of(cls, outputs: Mapping[str, NDArray[Any]]) -> Self:
        """Of outputs by name, see ``model.names``."""
        ratios = outputs.get(names.LOG_RATIOS)
        return cls(
            flow=np.asarray(outputs[names.FLOW], np.float64),
            reconstruction=np.asarray(outputs[names.RECONSTRUCTION], np.float64),
            log_ratios=None if ratios is None else np.asarray(ratios, np.float64),
            traits=np.asarray(outputs[names.TRAITS], np.float64),
            maps={name: outputs[names.of_map(name)] for name in names.MAPS if names.of_map(name) in outputs},
            x_hat=outputs.get(names.X_HAT),
        )


class Backend(Protocol):
    """Runs a model on images of one size."""

    @property
    def name(self) -> str:
        """torch, openvino or onnx."""

    @property
    def precision(self) -> str:
        """fp32 or bf16."""

    @property
    def size(self) -> int:
        """Pixels a side."""

    def run(self, x: Floats, maps: bool = False, pictures: bool = False) -> Raw:
        """The raw measures of images ``x`` (B, 3, size, size) in [0, 1], and maps and reconstruction if asked for."""


def wanted(outputs: Sequence[str], maps: bool, pictures: bool) -> tuple[str, ...]:
    """Which of a graph's outputs ``Raw`` needs."""
    always = {names.FLOW, names.RECONSTRUCTION, names.LOG_RATIOS, names.TRAITS}
    asked = always | (set(map(names.of_map, names.MAPS)) if maps else set()) | ({names.X_HAT} if pictures else set())
    return tuple(name for name in outputs if name in asked)
