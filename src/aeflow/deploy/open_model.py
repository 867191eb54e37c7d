"""Opening of a run or an export for scoring, with the named backend, or the fastest that gives torch's scores."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aeflow._version import __version__
from aeflow.artifacts.exported_graph import load_export
from aeflow.artifacts.layout import EXPORT, EXPORT_SCHEMA, check_weights, holds, is_export, read_export, read_metadata
from aeflow.backends.base import PLAIN, Wanted
from aeflow.backends.registry import BACKENDS, GRAPH_BACKENDS, missing
from aeflow.errors import AeflowError, ArtifactError, SettingsError
from aeflow.runtime.cache import MAKING, cache_root, discard, graph_folder, mark_used, note_damage, seal, verify
from aeflow.runtime.cache_limit import make_room
from aeflow.runtime.extras import extra
from aeflow.runtime.files import digest, write_text
from aeflow.runtime.folders import publish, scratch
from aeflow.runtime.process import check_device, may_have_gpu, pick_device
from aeflow.runtime.terminal import print
from aeflow.scoring.scorer import Scorer

# Number of images from which a graph is made first. That takes as long as some 300 images with torch, of whose time it
# saves half and more, and four seconds at every start after this one (docs/performance.md).
GRAPH_FROM_IMAGES = 300
AUTO_FORMAT = "openvino"  # the format of that graph
REFUSED = "refused"  # file in place of a graph in the cache that says why it was not kept

Metadata = dict[str, Any]  # the content of model.json


def open_model(
    run: Path, backend: str = "auto", device: str = "auto", images: int = 0, wanted: Wanted = PLAIN
) -> Scorer:
    """Open a run or an exported graph for scoring.

    ``images`` is how many are expected, ``wanted`` what will be asked of each. ``auto`` takes a graph that is in the
    run or in the cache; it makes one if ``GRAPH_FROM_IMAGES`` images or more will pay for it, and else takes torch. A
    note on stderr says why a graph is passed over.

    Raises SettingsError for a backend that is unknown, not installed, or not for ``device``; ArtifactError if files are
    damaged or a graph gives other scores than torch.
    """
    if backend not in BACKENDS:
        raise SettingsError("backend", f"{backend!r} is unknown", f"choose one of {', '.join(BACKENDS)}")
    check_device(device)
    if is_export(run):
        if device == "cuda":
            raise SettingsError("device", "an exported graph runs on the CPU here", "choose auto or cpu")
        return load_export(run, backend, wanted=wanted)
    metadata = read_metadata(run)
    gpu = device == "cuda" or (device == "auto" and may_have_gpu() and pick_device(device).type == "cuda")
    notes: list[str] = []  # said once the model is open: where it cannot be, the error says all
    scorer = None
    if backend in GRAPH_BACKENDS:
        if device == "cuda":
            raise SettingsError("backend", f"{backend} runs on the CPU here", "take --backend torch, or --device cpu")
        scorer = _graph(run, metadata, backend, wanted)
    elif backend == "auto" and not gpu:
        scorer = _fastest(run, metadata, images, wanted, notes)
    if scorer is not None:
        check_weights(run, metadata)  # the graph scores without them, but the run must not be half of another
    else:
        with extra("train"):
            from aeflow.artifacts.run import load_run  # imports torch

        scorer = load_run(run, pick_device(device), metadata).scorer
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return scorer


def _fastest(run: Path, metadata: Metadata, images: int, wanted: Wanted, notes: list[str]) -> Scorer | None:
    """Open the fastest graph that passes here; None if torch is to be taken. ``notes`` get why others are not taken."""
    for name in [name for name, backend in GRAPH_BACKENDS.items() if backend.installed()]:
        pays = name == AUTO_FORMAT and images >= GRAPH_FROM_IMAGES
        if holds(run / name, EXPORT):
            try:
                return _of(run / name, metadata, name, wanted)
            except AeflowError as error:
                notes.append(f"a graph is passed over: {error}")
        if (cached(metadata, name) / REFUSED).is_file():
            continue
        try:
            scorer = _kept(run, metadata, name, pays, wanted)
        except ArtifactError as error:
            notes.append(f"scoring with torch: {error}")
            continue
        if scorer is not None:
            return scorer
    return None


def _graph(run: Path, metadata: Metadata, backend: str, wanted: Wanted) -> Scorer:
    """Open the graph in a backend's own format, or make it if there is none."""
    if not GRAPH_BACKENDS[backend].installed():
        raise missing(backend)
    if holds(run / backend, EXPORT):
        return _of(run / backend, metadata, backend, wanted)
    scorer = _kept(run, metadata, backend, True, wanted)
    assert scorer is not None, "it is made if there is none"
    return scorer


def _kept(run: Path, metadata: Metadata, backend: str, pays: bool, wanted: Wanted) -> Scorer | None:
    """Open the graph in the cache; a damaged one is made anew, and a missing one made if it ``pays``.

    Raises ArtifactError if the graph gives other scores than torch.
    """
    place = cached(metadata, backend)
    if place.exists():
        try:
            refused = (place / REFUSED).is_file()
            verify(place, *([REFUSED] if refused else []))
            if not refused:
                return _of(place, metadata, backend, wanted)
        except (OSError, ValueError, ArtifactError) as error:
            pays = True
            if place.exists():  # else the cache was cleared just now
                note_damage(place, error)
                discard(place, cache_root())
        else:
            raise ArtifactError(run, (place / REFUSED).read_text(encoding="utf-8"), "score with --backend torch")
    return make(run, metadata, backend, place, wanted) if pays else None


def _of(folder: Path, metadata: Metadata, backend: str, wanted: Wanted) -> Scorer:
    """Open the graph in a folder; raises ArtifactError if it is of another run."""
    export = read_export(folder)
    if export["model"]["sha256"] != metadata["sha256"]:
        raise ArtifactError(folder, "of another training than the run", "export the run again, or delete the folder")
    return load_export(folder, backend, export, wanted)


def cached(metadata: Metadata, backend: str) -> Path:
    """Return the folder in the cache for a model's graph, by the model's checksum and the version of the backend."""
    package = GRAPH_BACKENDS[backend].packages[-1]
    key = [EXPORT_SCHEMA, __version__, metadata["sha256"], backend, version(package)]
    place = graph_folder(cache_root(), digest(key))
    mark_used(place)
    return place


def make(run: Path, metadata: Metadata, backend: str, place: Path, wanted: Wanted = PLAIN) -> Scorer:
    """Make the graph of a run in ``place``; ArtifactError if it does not pass its proof."""
    with extra("train"):
        from aeflow.artifacts.run import load_run  # imports torch
        from aeflow.deploy import export

    model = metadata["sha256"][:12]
    artifact = load_run(run, metadata=metadata)  # a damaged run is an error before anything is said of its graph
    make_room(cache_root(), sum(file.stat().st_size for file in run.glob("*.safetensors")))  # a graph holds the weights
    what = f"Making a graph for {backend}, once for this model"
    with scratch(place.parent, MAKING) as folder:
        parity = export.make(artifact, run, metadata, backend, folder, what)
        if parity.passes:
            seal(folder, f"{backend} of model {model}")
            scorer = load_export(folder, backend, wanted=wanted)  # opened before anyone can clear it
            if not place.exists():  # another process may have been faster
                publish(folder, place)
            return scorer
    error = export.unequal(run, parity)
    with scratch(place.parent, MAKING) as folder:
        write_text(folder / REFUSED, error.found)
        seal(folder, f"{backend} of model {model}, refused")
        if not place.exists():
            publish(folder, place)
    raise error
