"""Backend of OpenVINO, which reads its own format and ONNX."""

from __future__ import annotations

import hashlib
import math
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from aeflow._types import Floats32
from aeflow.backends.base import MAX_ELEMENTS, GraphBackend
from aeflow.backends.compiled_graph import compiled
from aeflow.backends.onnx import OnnxBackend
from aeflow.errors import count
from aeflow.runtime.threads import share, threads

MAX_STREAMS = 8  # images computed at once; each needs memory for its own activations


def openvino() -> ModuleType:
    """Import the package with its telemetry off, which would write into the home folder and call a server."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # as if not installed
    return import_module("openvino")


class OpenVINOBackend(GraphBackend):
    """Backend that runs a graph on the CPU with OpenVINO; only the outputs that are asked for are computed.

    The graph is compiled for one image, and as many images are computed at once as there are streams, each on cores of
    its own: a fixed shape saves a third of the arithmetic's time, and no thread waits for another that a decoder holds
    up.
    """

    name = "openvino"
    graph_file = "graph.xml"
    formats = ("openvino", "onnx")
    packages = ("openvino",)
    install = "openvino"
    one_by_one = True

    def __init__(self, files: Mapping[str, bytes], size: int, outputs: Sequence[str]) -> None:
        super().__init__(files, size, outputs)
        self._ov = openvino()
        self._core = self._ov.Core()
        own = self.graph_file in files
        self._files = [files[name] for name in (self.files() if own else (OnnxBackend.graph_file,))]
        self._one = threading.Lock()  # a queue gives its requests' results to one caller at a time
        self._queues: dict[tuple[str, ...], tuple[Any, list[tuple[int, ...]]]] = {}

    @classmethod
    def files(cls) -> tuple[str, ...]:
        """Return the name of the graph, and of its weights."""
        return (cls.graph_file, "graph.bin")

    @cached_property
    def _model(self) -> Any:
        """The graph, read from memory, so that it can name no other file. Raises ValueError for loops and states."""
        model = self._core.read_model(*self._files)
        kinds = {node.get_type_name() for node in model.get_ops()}
        if found := sorted(kinds & {"Loop", "TensorIterator", "If", "ReadValue", "Assign"}):
            raise ValueError(f"{found[0]}: no operation of a score")
        return model

    def outputs(self, x: Floats32, names: tuple[str, ...]) -> dict[str, Floats32]:
        """Return some outputs by name, of images ``x`` (B, 3, size, size) in [0, 1]; one thread at a time."""
        with self._one:
            return self._computed(x, names)

    def _computed(self, x: Floats32, names: tuple[str, ...]) -> dict[str, Floats32]:
        if names not in self._queues:
            self._queues[names] = self._queue(names)
        queue, shapes = self._queues[names]
        found = {name: np.empty((len(x), *shape), np.float32) for name, shape in zip(names, shapes, strict=True)}

        def take(request: Any, row: int) -> None:
            for i, name in enumerate(names):
                found[name][row] = request.get_output_tensor(i).data[0]

        queue.set_callback(take)
        x = np.ascontiguousarray(x)  # the inputs are shared without a copy
        for row in range(len(x)):
            queue.start_async([x[row : row + 1]], row, share_inputs=True)
        queue.wait_all()
        return found

    def _queue(self, names: tuple[str, ...]) -> tuple[Any, list[tuple[int, ...]]]:
        """Compile some outputs; return the queue that computes them, and their shapes without the batch."""
        streams = min(threads(), MAX_STREAMS)
        # By itself OpenVINO takes bfloat16 where the processor has it, and a score near the threshold changes sides.
        hints = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": streams}
        hints["ENABLE_CPU_PINNING"] = False  # two processes would be bound to the same cores, at half the speed of both
        if (given := share()) is not None:
            hints["INFERENCE_NUM_THREADS"] = given
        if self.keep:
            sums = [hashlib.sha256(content).hexdigest() for content in self._files]
            what = f"compiled graph {sums[0][:8]}, {self.size} px, {count(len(names), 'output')}"
            found = compiled(self._core, lambda: self._part(names), hints, [*sums, self.size, names], what)
        else:
            found = self._core.compile_model(self._part(names), "CPU", hints)
        return self._ov.AsyncInferQueue(found, streams), [tuple(output.shape)[1:] for output in found.outputs]

    def _part(self, names: tuple[str, ...]) -> Any:
        """Return the part of the graph that computes some outputs of one image; ValueError for one too large."""
        model = self._model.clone()
        part = self._ov.Model([model.output(name).get_node() for name in names], model.get_parameters())
        part.reshape([1, 3, self.size, self.size])
        for output in (output for node in part.get_ops() for output in node.outputs()):
            shape = output.get_partial_shape()
            if shape.is_static and math.prod(shape.to_shape()) > MAX_ELEMENTS:
                raise ValueError(f"{output.get_node().get_type_name()}: larger than anything that a score computes")
        return part
