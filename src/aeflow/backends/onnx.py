"""A graph run by ONNX Runtime, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aeflow._types import Floats32
from aeflow.backends.base import BackendOutput, wanted


def installed() -> bool:
    """Whether everything of the extra ``onnx`` can be imported."""
    return all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))


class OnnxBackend:
    """Runs a graph file; only the outputs that are asked for are computed."""

    name = "onnx"
    precision = "fp32"

    def __init__(self, graph: Path, size: int, outputs: Sequence[str]) -> None:
        import onnx

        self.size = size
        self._outputs = tuple(outputs)
        self._model = onnx.load(graph)
        self._sessions: dict[tuple[str, ...], Any] = {}

    def run(self, x: Floats32, maps: bool = False, pictures: bool = False) -> BackendOutput:
        return BackendOutput.of(self.outputs(x, wanted(self._outputs, maps, pictures)))

    def outputs(self, x: Floats32, names: tuple[str, ...]) -> dict[str, Floats32]:
        """Some outputs by name, of images ``x`` (B, 3, size, size) in [0, 1]."""
        if names not in self._sessions:
            self._sessions[names] = self._session(names)
        session = self._sessions[names]
        [given] = session.get_inputs()
        return dict(zip(names, session.run(list(names), {given.name: x}), strict=True))

    def _session(self, names: tuple[str, ...]) -> Any:
        """A session of a graph without the other outputs: it would compute them whoever asks for what."""
        import onnx

        # Without it the import writes an id and a data base into the home folder, for a server.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        onnxruntime = import_module("onnxruntime")

        part = onnx.ModelProto()
        part.CopyFrom(self._model)
        kept = [one for one in self._model.graph.output if one.name in names]
        del part.graph.output[:]
        part.graph.output.extend(kept)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; a shape that it could not infer is none
        return onnxruntime.InferenceSession(part.SerializeToString(), options, ["CPUExecutionProvider"])
