"""Writing of a torch module as a graph file of OpenVINO or ONNX."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aeflow.backends import openvino

if TYPE_CHECKING:
    import onnx_ir

TRACED_IMAGES = 2  # images to trace a graph for any number of images with; a graph of 1 might hold it as a constant


def write_graph(graph: nn.Module, outputs: Sequence[str], size: int, path: Path) -> None:
    """Trace a module for any number of images and write it as OpenVINO's ``.xml`` and ``.bin``, or as ``.onnx``."""
    x = torch.rand(TRACED_IMAGES, 3, size, size)
    with _quiet(), torch.no_grad():
        if path.suffix == ".onnx":
            free = {0: torch.export.Dim("batch", max=4096)}
            program = torch.export.export(graph, (x,), dynamic_shapes=(free,))
            written = torch.onnx.export(
                program, dynamo=True, optimize=False, input_names=["x"], output_names=list(outputs)
            )
            if written is None:
                raise RuntimeError("torch.onnx wrote no program")
            _optimise(written.model)
            path.write_bytes(_anonymous(written.model_proto).SerializeToString())
            return
        ov = openvino.openvino()
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        # It traces by itself in a quarter of the time that it takes for a program of torch.export; what a second trace
        # would check, the proof of a graph does.
        traced = TorchScriptPythonDecoder(graph, example_input=x, trace_kwargs={"check_trace": False})
        model = ov.convert_model(traced, example_input=x, input=[[-1, 3, size, size]])
        for output, name in zip(model.outputs, outputs, strict=True):
            output.get_tensor().set_names({name})
        try:
            ov.save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:  # OpenVINO says no more of what the system refused
            raise OSError(errno.EIO, "the graph cannot be written whole", str(path)) from error


def graph_files(graph: nn.Module, outputs: Sequence[str], size: int, name: str) -> dict[str, bytes]:
    """Trace a module as ``write_graph`` does; return the files of the graph by name, which is that of the first."""
    with tempfile.TemporaryDirectory(prefix="aeflow-") as folder:
        write_graph(graph, outputs, size, Path(folder) / name)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _optimise(model: onnx_ir.Model) -> None:
    """Compute what is constant in an ONNX model, fuse what goes together, and join what is computed twice, in place.

    torch's own way to do the same takes four times as long: it looks for what to fuse before it drops unused nodes.
    """
    from onnx_ir.passes import Sequential, common
    from onnxscript import optimizer, rewriter

    optimizer.inline(model)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    rewriter.rewrite(model)
    optimizer.fold_constants(model)
    Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.NameFixPass(),
    )(model)


def _anonymous(message: Any) -> Any:
    """Return an ONNX message without the stack traces that its parts carry: they name paths of this machine."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _anonymous(part)
    return message


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what tracers and converters print and warn about: it is of no use to the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
