"""Backend of ONNX Runtime, on the CPU."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from aeflow._types import Floats32
from aeflow.backends.base import MAX_ELEMENTS, GraphBackend
from aeflow.runtime.threads import threads

DOMAINS = ("", "ai.onnx")  # of operations that every runtime has


class OnnxBackend(GraphBackend):
    """Backend that runs a graph with ONNX Runtime; only the outputs that are asked for are computed."""

    name = "onnx"
    graph_file = "graph.onnx"
    formats = ("onnx",)
    packages = ("onnx", "onnxscript", "onnxruntime")
    install = "aeflow[onnx]"
    one_by_one = False

    def __init__(self, files: Mapping[str, bytes], size: int, outputs: Sequence[str]) -> None:
        import onnx

        super().__init__(files, size, outputs)
        self._model = onnx.load_model_from_string(files[self.graph_file])  # so it can name no other file
        _check(self._model)
        self._sessions: dict[tuple[str, ...], Any] = {}

    def outputs(self, x: Floats32, names: tuple[str, ...]) -> dict[str, Floats32]:
        """Return some outputs by name, of images ``x`` (B, 3, size, size) in [0, 1]."""
        if names not in self._sessions:
            self._sessions[names] = self._session(names)
        session = self._sessions[names]
        [pixels] = session.get_inputs()
        return dict(zip(names, session.run(list(names), {pixels.name: x}), strict=True))

    def _session(self, names: tuple[str, ...]) -> Any:
        """Open a session of the graph without the other outputs, which it would always compute, too."""
        import onnx

        # Otherwise the import writes an id and a data base into the home folder, for its telemetry server.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        onnxruntime = import_module("onnxruntime")

        part = onnx.ModelProto()
        part.CopyFrom(self._model)
        kept = [output for output in self._model.graph.output if output.name in names]
        del part.graph.output[:]
        part.graph.output.extend(kept)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: it warns of shapes that it cannot infer
        options.intra_op_num_threads = threads()  # left to itself it binds each to a core, as another process does
        return onnxruntime.InferenceSession(part.SerializeToString(), options, ["CPUExecutionProvider"])


def _check(model: Any) -> None:
    """Raise ValueError for what no score needs: loops, operations of others, other files, and giant values."""
    import onnx
    from onnx.shape_inference import infer_shapes

    for node in model.graph.node:
        if node.domain not in DOMAINS or node.op_type in ("Loop", "If", "Scan"):
            raise ValueError(f"{node.op_type}: no operation of a score")
    if model.functions or any(x.data_location == onnx.TensorProto.EXTERNAL for x in model.graph.initializer):
        raise ValueError("its numbers lie elsewhere")
    for value in infer_shapes(model, data_prop=True).graph.value_info:
        if math.prod(max(1, d.dim_value) for d in value.type.tensor_type.shape.dim) > MAX_ELEMENTS:
            raise ValueError(f"{value.name}: larger than anything that a score computes")
