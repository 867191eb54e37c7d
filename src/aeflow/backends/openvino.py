"""A graph run by OpenVINO; it reads its own format and ONNX."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from aeflow.backends.base import Floats, Raw, wanted

HINTS = {"fp32": "f32", "bf16": "bf16"}  # OpenVINO's names of the precisions that it computes in


def installed() -> bool:
    """Whether OpenVINO can be imported."""
    return find_spec("openvino") is not None


def openvino() -> ModuleType:
    """The package, with its telemetry off: importing it would write into the home folder and call a server."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # as if not installed
    return import_module("openvino")


class OpenVINOBackend:
    """Runs a graph file on the CPU; only the outputs that are asked for are computed."""

    name = "openvino"

    def __init__(self, graph: Path, size: int, outputs: Sequence[str], precision: str = "fp32") -> None:
        self.size, self.precision = size, precision
        self._outputs = tuple(outputs)
        self._ov = openvino()
        self._core = self._ov.Core()
        self._model = self._core.read_model(graph)
        self._compiled: dict[tuple[str, ...], Any] = {}

    def run(self, x: Floats, maps: bool = False, pictures: bool = False) -> Raw:
        return Raw.of(self.outputs(x, wanted(self._outputs, maps, pictures)))

    def outputs(self, x: Floats, names: tuple[str, ...]) -> dict[str, Floats]:
        """Some outputs by name, of images ``x`` (B, 3, size, size) in [0, 1]."""
        if names not in self._compiled:
            model = self._model.clone()
            results = [model.output(name).get_node() for name in names]
            part = self._ov.Model(results, model.get_parameters())
            hint = {"INFERENCE_PRECISION_HINT": HINTS[self.precision], "PERFORMANCE_HINT": "LATENCY"}
            self._compiled[names] = self._core.compile_model(part, "CPU", hint).create_infer_request()
        request = self._compiled[names]
        request.infer([np.ascontiguousarray(x)], share_inputs=True)
        return {name: np.array(request.get_output_tensor(i).data) for i, name in enumerate(names)}


def has_bf16() -> bool:
    """Whether this CPU computes in bfloat16 by itself."""
    return "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
