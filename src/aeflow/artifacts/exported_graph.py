"""Exported graphs on disk: opening, and the check that they score here as on the machine that made them.

::

    FOLDER/export.json             schema, format, parity, checksums, the scores of its test images,
                                   and under "model" the whole model.json: settings, calibration, bounds of inputs
    FOLDER/graph.xml, graph.bin    OpenVINO's graph; graph.onnx that of ONNX
    FOLDER/arrays.safetensors      the arrays of ``InputGuard``, and the test images (n, 3, H, W) uint8

The same files can be one: FILE.aeflow (``runtime.one_file``). All are read into memory once, checked, and run from
there. The test images are of no patient (``deploy.export.test_images``). No part is a pickle, and nothing here imports
torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from aeflow.artifacts.layout import EXPORT, MAX_WEIGHTS, WRITTEN_BY_SAVE, Read, check_header, files_of, read_export
from aeflow.artifacts.schema import ARRAYS_FILE
from aeflow.backends.base import PLAIN, Backend, GraphBackend, Wanted
from aeflow.backends.registry import running
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import ARRAYS, InputGuard
from aeflow.config import Settings
from aeflow.errors import AeflowError, ArtifactError
from aeflow.runtime.files import write_bytes
from aeflow.scoring.scorer import BATCH, Scorer, check_guard, value_of

IMAGES = "test_images"
# Largest difference of two scores that count as equal, in standard deviations of held-out normals' scores.
TOLERANCE = 1e-3
REMEDY_EXPORT_GRAPH = "export it again"

Pictures = NDArray[np.uint8]


def load_export(
    place: Path, backend: str = "auto", export: dict[str, Any] | None = None, wanted: Wanted = PLAIN
) -> Scorer:
    """Load the scorer of an exported graph, with each file checked and the graph run on its test images.

    ``export`` is the content of its ``export.json``, if it was read already. ``wanted`` is what will be asked: it is
    computed for the test images, too, since a graph is compiled for each set of outputs.

    Raises ArtifactError for a damaged file or for scores that differ from those at its export, SettingsError if
    ``backend`` does not run this format or is not installed.
    """
    read = files_of(place)
    export = read_export(place, read) if export is None else export
    files = _checked(place, read, export["files"])
    try:
        model = export["model"]
        settings = Settings(**model["settings"])
        calibration = Calibration.from_json(model["calibration"])
        check_header(files[ARRAYS_FILE], place / ARRAYS_FILE, REMEDY_EXPORT_GRAPH)
        arrays = load(files[ARRAYS_FILE])
        images = arrays.pop(IMAGES)
        if arrays.keys() != set(ARRAYS) or not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("other arrays")
        if images.shape != (len(export["self_test"]), 3, settings.image_size, settings.image_size):
            raise ValueError("other test images")
        guard = InputGuard.of(arrays, model["intended"])
        graph = open_graph(files, export, settings.image_size, backend, keep=True)
        metadata = {key: value for key, value in model.items() if key not in WRITTEN_BY_SAVE}
        scorer = Scorer(settings, calibration, guard, graph, metadata, model["sha256"])
        check(scorer, images, export, place, wanted)
    except AeflowError:
        raise
    except Exception as error:  # what runtimes find wrong with a graph has no base in common
        found = f"does not describe a graph that this version can run ({type(error).__name__})"
        raise ArtifactError(place / EXPORT, found, REMEDY_EXPORT_GRAPH) from error
    return scorer


def _checked(place: Path, read: Read, checksums: Mapping[str, str]) -> dict[str, bytes]:
    """Return an export's files by name; raises ArtifactError for one that is missing or has another checksum."""
    files = {}
    for name, sha256 in checksums.items():
        files[name] = read(name, REMEDY_EXPORT_GRAPH, MAX_WEIGHTS)
        if hashlib.sha256(files[name]).hexdigest() != sha256:
            found = "damaged, or of another export (checksum differs)"
            raise ArtifactError(place / name, found, REMEDY_EXPORT_GRAPH)
    return files


def open_graph(
    files: Mapping[str, bytes], export: dict[str, Any], size: int, backend: str = "auto", keep: bool = False
) -> GraphBackend:
    """Return the backend of an export, not yet tried; raises SettingsError if ``backend`` cannot run it.

    ``keep``: see ``GraphBackend``.
    """
    graph = running(export["format"], backend)(files, size, export["outputs"])
    graph.keep = keep
    return graph


def check(scorer: Scorer, images: Pictures, export: dict[str, Any], where: Path, wanted: Wanted = PLAIN) -> None:
    """Raise ArtifactError unless the graph scores its test images here as torch did where it was made."""
    check_guard(scorer.input_guard, scorer.backend.run(as_pixels(images[:1]), *wanted))
    got, want = values(scorer.calibration, scorer.backend, images, wanted), np.array(export["self_test"])
    difference = largest(got, want, scorer.calibration)
    if not difference <= TOLERANCE:
        found = f"this machine gives other scores than the one that exported it (off by {difference:.2g} sd)"
        raise ArtifactError(where, found, f"{REMEDY_EXPORT_GRAPH} here, or score with --backend torch")


def values(calibration: Calibration, backend: Backend, images: Pictures, wanted: Wanted = PLAIN) -> NDArray[np.float64]:
    """Return the scores (n,) of images (n, 3, H, W) uint8."""
    found = []
    for start in range(0, len(images), BATCH):
        found.append(value_of(calibration, backend.run(as_pixels(images[start : start + BATCH]), *wanted)))
    return np.concatenate(found)


def as_pixels(images: Pictures) -> NDArray[np.float32]:
    """Return uint8 images as float32 in [0, 1], as networks take them."""
    return images.astype(np.float32) / np.float32(255)


def largest(got: NDArray[Any], want: NDArray[Any], calibration: Calibration) -> float:
    """Return the largest difference of two sets of scores, in standard deviations of held-out normals' scores."""
    return float(np.abs(got - want).max()) / float(np.std(calibration.scores))


def save_arrays(folder: Path, guard: InputGuard, images: Pictures) -> None:
    """Write the arrays that ``load_export`` reads beside the graph and ``export.json``."""
    arrays: dict[str, NDArray[Any]] = {**{name: guard.arrays()[name] for name in ARRAYS}, IMAGES: images}
    write_bytes(folder / ARRAYS_FILE, save(arrays))
