"""Which backend scores: the one that is named, or the fastest whose scores are proven to be torch's on this machine."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

from aeflow._version import __version__
from aeflow.artifacts import exported_graph
from aeflow.artifacts.exported_graph import GRAPHS
from aeflow.artifacts.layout import EXPORT, EXPORT_SCHEMA, is_export, read_export, read_metadata
from aeflow.backends import openvino
from aeflow.errors import AeflowError, ArtifactError, SettingsError
from aeflow.runtime.cache import cache_root, describe, graph_folder, mark_used
from aeflow.runtime.files import digest, write_text
from aeflow.runtime.process import may_have_gpu, pick_device
from aeflow.runtime.progress import console
from aeflow.scoring.scorer import Scorer

BACKENDS = ("auto", "torch", *GRAPHS)
# Images from which on a graph is made first. That takes as long as some 800 images with torch; it saves a third of each
# image's time, and four seconds at every start after this one (docs/performance.md).
GRAPH_FROM_IMAGES = 500
REFUSED = "refused"  # in a graph's place in the cache: why it was not kept
AS_RUN = "give a run, or export one with `aeflow export`"


def open_model(run: Path, backend: str = "auto", device: str = "auto", images: int = 0) -> Scorer:
    """What scores with a run or an exported graph, when so many ``images`` are to be scored.

    ``auto`` takes a graph that lies in the run or in the cache, makes one for ``GRAPH_FROM_IMAGES`` images or more, and else takes
    torch; it says on stderr why a graph is passed over. Raises SettingsError for a backend that is unknown, not
    installed, or not for ``device``; ArtifactError where files are damaged or a graph gives other scores than torch.
    """
    if backend not in BACKENDS:
        raise SettingsError("backend", f"{backend!r} is unknown", f"choose one of {', '.join(BACKENDS)}")
    if is_export(run):
        return exported_graph.load_export(run, backend)
    gpu = device == "cuda" or (device == "auto" and may_have_gpu() and pick_device(device).type == "cuda")
    if backend in GRAPHS:
        if device == "cuda":
            raise SettingsError("backend", f"{backend} runs on the CPU here", "take --backend torch, or --device cpu")
        return _graph(run, backend)
    if backend == "auto" and not gpu:
        scorer = _fastest(run, images)
        if scorer is not None:
            return scorer
    from aeflow.artifacts.run import load_run  # imports torch

    return load_run(run, pick_device(device)).scorer


def make_ready(run: Path, device: str = "auto") -> None:
    """Make now what ``auto`` would make once there are many images, so that a first score need not do without it."""
    open_model(run, "auto", device, GRAPH_FROM_IMAGES)


def _fastest(run: Path, images: int) -> Scorer | None:
    """The scorer of the fastest graph that passes here; None where torch is to be taken."""
    model = read_metadata(run)["sha256"]
    for form in filter(exported_graph.installed, GRAPHS):  # the first is the faster one
        for folder in (run / form, cached(model, form)):
            if (folder / EXPORT).is_file():
                try:
                    return _of(folder, model, form)
                except AeflowError as error:
                    print(f"note: a graph is passed over: {error}", file=sys.stderr)
    place = cached(model, "openvino")
    if images < GRAPH_FROM_IMAGES or not openvino.installed() or (place / REFUSED).is_file():
        return None
    try:
        return make(run, "openvino", place)
    except ArtifactError as error:
        print(f"note: scoring with torch: {error}", file=sys.stderr)
        return None


def _graph(run: Path, form: str) -> Scorer:
    """The scorer of the graph of one format, made where there is none."""
    if not exported_graph.installed(form):
        raise exported_graph.missing(form)
    model = read_metadata(run)["sha256"]
    for folder in (run / form, cached(model, form)):
        if (folder / EXPORT).is_file():
            try:
                return _of(folder, model, form)
            except ArtifactError:
                if folder.exists():  # else the cache was cleared just now
                    raise
    place = cached(model, form)
    if (place / REFUSED).is_file():
        raise ArtifactError(run, (place / REFUSED).read_text(encoding="utf-8"), "score with --backend torch")
    return make(run, form, place)


def _of(folder: Path, model: str, form: str) -> Scorer:
    if read_export(folder)["model"]["sha256"] != model:
        raise ArtifactError(folder, "of another training than the run", "export the run again, or delete the folder")
    return exported_graph.load_export(folder, form)


def cached(model: str, form: str) -> Path:
    """Return where the cache keeps a model's graph, by its metadata's checksum, for this version of what runs it."""
    package = {"openvino": "openvino", "onnx": "onnxruntime"}[form]
    key = [EXPORT_SCHEMA, __version__, model, form, version(package)]
    place = graph_folder(cache_root(), digest(key))
    mark_used(place)
    return place


def make(run: Path, form: str, place: Path) -> Scorer:
    """Make the graph of a run in ``place``, in the lowest precision that passes; ArtifactError where none does."""
    from aeflow.artifacts.run import load_run  # imports torch
    from aeflow.deploy.export import made, unequal

    with console.status(f"Making a graph for {form}, once for this model"):
        if not console.is_terminal:
            print(f"note: making a graph for {form}, once for this model", file=sys.stderr)
        artifact = load_run(run)
        model = read_metadata(run)["sha256"]
        precisions = ["bf16", "fp32"] if form == "openvino" and openvino.has_bf16() else ["fp32"]
        alone = form == "openvino"  # its backend hands over image by image
        with made(artifact, run, form, precisions, place.parent, one_by_one=alone) as (folder, parity):
            precision = read_export(folder)["precision"]
            if parity.passes(precision):
                describe(folder, f"{form} {precision} of model {model[:12]}")
                scorer = exported_graph.load_export(folder, form)  # opened before anyone can clear it
                if not place.exists():  # another process may have been faster
                    os.replace(folder, place)
                return scorer
    error = unequal(run, parity, "fp32")
    place.mkdir(exist_ok=True)
    describe(place, f"{form} of model {model[:12]}, refused")
    write_text(place / REFUSED, error.found)
    raise error
