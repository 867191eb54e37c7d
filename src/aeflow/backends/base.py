"""What every backend is to the rest: pixels in, raw measures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Floats, Floats32
from aeflow.model import output_names


@dataclass(frozen=True, slots=True)
class BackendOutput:
    """The raw measures of a batch, before calibration; ``maps`` and ``x_hat`` only if they were asked for."""

    flow: Floats  # (B, stages)
    reconstruction: Floats  # (B,)
    log_ratios: Floats | None  # (B, kinds) where the model has classes
    input_statistics: Floats  # (B, T), see ``model.input_statistics``
    maps: dict[str, Floats32]  # (B, H, W) each
    x_hat: Floats32 | None  # (B, 3, H, W)

    @classmethod
    def of(cls, outputs: Mapping[str, NDArray[Any]]) -> Self:
        """Of outputs by name, see ``model.names``."""
        ratios = outputs.get(output_names.LOG_RATIOS)
        return cls(
            flow=np.asarray(outputs[output_names.FLOW], np.float64),
            reconstruction=np.asarray(outputs[output_names.RECONSTRUCTION], np.float64),
            log_ratios=None if ratios is None else np.asarray(ratios, np.float64),
            input_statistics=np.asarray(outputs[output_names.INPUT_STATISTICS], np.float64),
            maps={
                name: outputs[output_names.of_map(name)]
                for name in output_names.MAPS
                if output_names.of_map(name) in outputs
            },
            x_hat=outputs.get(output_names.X_HAT),
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

    def run(self, x: Floats32, maps: bool = False, pictures: bool = False) -> BackendOutput:
        """The raw measures of images ``x`` (B, 3, size, size) in [0, 1], and maps and reconstruction if asked for."""


def wanted(outputs: Sequence[str], maps: bool, pictures: bool) -> tuple[str, ...]:
    """Which of a graph's outputs ``BackendOutput`` needs."""
    always = {output_names.FLOW, output_names.RECONSTRUCTION, output_names.LOG_RATIOS, output_names.INPUT_STATISTICS}
    asked = (
        always
        | (set(map(output_names.of_map, output_names.MAPS)) if maps else set())
        | ({output_names.X_HAT} if pictures else set())
    )
    return tuple(name for name in outputs if name in asked)
