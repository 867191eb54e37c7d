"""An exported graph on disk: what it takes to score with it, and whether it does so here as it did where it was made.

::

    FOLDER/export.json             schema, format, precision, parity, checksums, the scores of its test images,
                                   and under "model" the whole model.json: settings, calibration, intended bounds
    FOLDER/graph.xml, graph.bin    OpenVINO's graph; graph.onnx that of ONNX
    FOLDER/arrays.safetensors      the arrays of ``InputGuard``, and the test images (n, 3, H, W) uint8

The test images are of no patient (``export.test_images``). No part is a pickle, and nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from aeflow.artifacts.layout import EXPORT, WRITTEN_BY_SAVE, read_export
from aeflow.backends import onnx, openvino
from aeflow.backends.base import Backend
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import ARRAYS, InputGuard
from aeflow.config import Settings
from aeflow.errors import ArtifactError, SettingsError
from aeflow.runtime.files import file_digest
from aeflow.scoring.scorer import BATCH, Scorer, value_of

GRAPHS = {"openvino": "graph.xml", "onnx": "graph.onnx"}  # formats, and the files that are opened
ARRAYS_FILE = "arrays.safetensors"
IMAGES = "test_images"
# Largest difference of a score that passes for the same, in standard deviations of held-out normals' scores.
TOLERANCE = {"fp32": 1e-3, "bf16": 0.05}
REMEDY_EXPORT_GRAPH = "export it again"

Pictures = NDArray[np.uint8]


def load_export(folder: Path, backend: str = "auto") -> Scorer:
    """The scorer of an exported graph: each file is checked, and the graph run on some of its test images.

    Raises ArtifactError for a damaged file or for other scores than it was exported with, SettingsError where
    ``backend`` does not run this format or is not installed.
    """
    metadata = read_export(folder)
    for name, sha256 in metadata["files"].items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(path, "no such file", REMEDY_EXPORT_GRAPH)
        if file_digest(path) != sha256:
            raise ArtifactError(path, "damaged, or of another export (checksum differs)", REMEDY_EXPORT_GRAPH)
    try:
        settings = Settings(**metadata["model"]["settings"])
        calibration = Calibration.from_json(metadata["model"]["calibration"])
        arrays = load_file(folder / ARRAYS_FILE)
        images = arrays.pop(IMAGES)
        intended = InputGuard.of(arrays, metadata["model"]["intended"])
        runs = open_graph(folder, metadata, settings.image_size, backend)
        told = {key: value for key, value in metadata["model"].items() if key not in WRITTEN_BY_SAVE}
        scorer = Scorer(settings, calibration, intended, runs, told)
        check(scorer, images, metadata, folder)
    except (ValidationError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        found = f"does not describe a graph that this version can run ({type(error).__name__})"
        raise ArtifactError(folder / EXPORT, found, REMEDY_EXPORT_GRAPH) from error
    return scorer


def open_graph(folder: Path, metadata: dict[str, Any], size: int, backend: str = "auto") -> Backend:
    """The graph of an export, not yet tried; OpenVINO reads ONNX as well."""
    form, precision, outputs = metadata["format"], metadata["precision"], metadata["outputs"]
    graph = folder / GRAPHS[form]
    runs = ["openvino"] if form == "openvino" else ["onnx", "openvino"]
    if backend not in ("auto", *runs):
        raise SettingsError("backend", f"{backend} does not run a graph of {form}", f"take {' or '.join(runs)}")
    chosen = next((name for name in runs if backend in ("auto", name) and installed(name)), None)
    if chosen is None:
        raise missing(runs[0] if backend == "auto" else backend)
    if chosen == "openvino":
        return openvino.OpenVINOBackend(graph, size, outputs, precision)
    return onnx.OnnxBackend(graph, size, outputs)


def installed(backend: str) -> bool:
    """Whether what runs and writes a format can be imported."""
    return {"openvino": openvino.installed, "onnx": onnx.installed}[backend]()


def missing(backend: str) -> SettingsError:
    """What is said of a backend that is not installed."""
    package = "aeflow[onnx]" if backend == "onnx" else backend
    return SettingsError("backend", f"{backend} is not installed", f"pip install '{package}', or take another backend")


def check(scorer: Scorer, images: Pictures, metadata: dict[str, Any], where: Path) -> None:
    """Raise ArtifactError unless the graph scores its test images here as torch did where it was made."""
    got, want = values(scorer.calibration, scorer.backend, images), np.array(metadata["self_test"])
    difference = largest(got, want, scorer.calibration)
    if not difference <= TOLERANCE[metadata["precision"]]:
        found = f"this machine gives other scores than the one that exported it (off by {difference:.2g} sd)"
        raise ArtifactError(where, found, f"{REMEDY_EXPORT_GRAPH} here, or score with --backend torch")


def values(calibration: Calibration, backend: Backend, images: Pictures) -> NDArray[np.float64]:
    """The scores (n,) of images (n, 3, H, W) uint8."""
    found = []
    for start in range(0, len(images), BATCH):
        found.append(value_of(calibration, backend.run(as_pixels(images[start : start + BATCH]))))
    return np.concatenate(found)


def as_pixels(images: Pictures) -> NDArray[np.float32]:
    """Images of uint8 as networks take them."""
    return images.astype(np.float32) / np.float32(255)


def largest(got: NDArray[Any], want: NDArray[Any], calibration: Calibration) -> float:
    """The largest difference of two sets of scores, in standard deviations of held-out normals' scores."""
    return float(np.abs(got - want).max()) / float(np.std(calibration.scores))


def save_arrays(folder: Path, intended: InputGuard, images: Pictures) -> None:
    """What ``load`` reads beside graph and metadata."""
    save_file({**{name: intended.arrays()[name] for name in ARRAYS}, IMAGES: images}, folder / ARRAYS_FILE)
