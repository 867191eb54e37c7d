"""Registry of the backends that run graphs: a new backend is one class in a file here and one line below.

Torch is no entry: it runs the network itself, graphs are checked against it, and it is imported only if it runs.
"""

from __future__ import annotations

from aeflow.backends.base import GraphBackend
from aeflow.backends.onnx import OnnxBackend
from aeflow.backends.openvino import OpenVINOBackend
from aeflow.errors import SettingsError

GRAPH_BACKENDS: dict[str, type[GraphBackend]] = {  # the faster ones first
    "openvino": OpenVINOBackend,
    "onnx": OnnxBackend,
}
BACKENDS = ("auto", "torch", *GRAPH_BACKENDS)


def of_format(name: str) -> type[GraphBackend]:
    """Return the backend of a format that a graph is to be written in; raises SettingsError for an unknown one."""
    if name not in GRAPH_BACKENDS:
        raise SettingsError("--to", f"{name!r} is no format", f"choose {' or '.join(GRAPH_BACKENDS)}")
    return GRAPH_BACKENDS[name]


def running(graph_format: str, backend: str = "auto") -> type[GraphBackend]:
    """Return the backend that runs graphs of a format: the one that is named, else the format's own, else another.

    Raises SettingsError if ``backend`` does not run the format or is not installed.
    """
    able = [name for name, kind in GRAPH_BACKENDS.items() if graph_format in kind.formats]
    able.sort(key=lambda name: name != graph_format)
    if backend not in ("auto", *able):
        found = f"{backend} does not run a graph of {graph_format}"
        raise SettingsError("backend", found, f"take {' or '.join(able)}")
    for name in able:
        if backend in ("auto", name) and GRAPH_BACKENDS[name].installed():
            return GRAPH_BACKENDS[name]
    raise missing(able[0] if backend == "auto" else backend)


def missing(backend: str) -> SettingsError:
    """Return the error for a backend that is not installed."""
    remedy = f"pip install '{GRAPH_BACKENDS[backend].install}', or take another backend"
    return SettingsError("backend", f"{backend} is not installed", remedy)
