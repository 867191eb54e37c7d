"""A data folder -> a trained, calibrated model in its run folder."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from aeflow.artifacts.layout import EPOCH_SCORES, HISTORY, MODEL_JSON
from aeflow.artifacts.reference_normals import Neighbours
from aeflow.artifacts.run import Artifact, save_run
from aeflow.calibration.calibration import MIN_NORMALS
from aeflow.config import Settings
from aeflow.data.leakage import leakage, refuse_leakage
from aeflow.data.records import Refusals, of_label, read_records
from aeflow.data.slices import refusals_among, unfold
from aeflow.data.splits import evenly, hold_out
from aeflow.errors import ArtifactError, DataError
from aeflow.features.cache import FeatureCache
from aeflow.features.dataset import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import pretrained
from aeflow.runtime.files import write_text
from aeflow.runtime.process import pick_device, prepare
from aeflow.runtime.progress import bar
from aeflow.training import log_det_weight
from aeflow.training.calibrate import calibrate_on
from aeflow.training.checkpoint import CHECKPOINT
from aeflow.training.fit_input_guard import learn_input_guard
from aeflow.training.learn_classes import learn_classes
from aeflow.training.loop import Material, fit_network

MAX_WATCHED = 100  # train abnormal images whose scores are drawn epoch by epoch; nothing is decided on them
MAX_LATENTS = 300  # train normals whose latents new ones are drawn after

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives beside the files in its run folder."""

    artifact: Artifact
    history: list[dict[str, float]]
    refusals: Refusals
    notes: list[str]  # what the user should know of the data


def train(
    data: Path | str,
    out: Path | str,
    settings: Settings,
    *,
    encoder_weights: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> Trained:
    """Learn from the train normals of ``data`` and write the run folder ``out``.

    Raises DataError for too few normals, or for normals that are in the test split, too, unless
    ``settings.allow_leakage``; ArtifactError where ``out`` already holds a model or another training,
    NumericalError naming the layer where training leaves the finite numbers.
    """
    started = time.perf_counter()
    prepare()
    run, on = Path(out), pick_device(device)
    _check_run(run, resume, overwrite)
    records = unfold(read_records(data, "train"), settings.slice_axis)
    normals = of_label(records, 0, at_least=2, where=Path(data) / "train")
    test = unfold([r for r in read_records(data) if r.split == "test"], settings.slice_axis)
    leaked = leakage(normals, test)
    if not settings.allow_leakage:
        refuse_leakage(data, leaked)
    kept, held = hold_out(normals, settings.held_out, settings.seed)
    watched = evenly(of_label(records, 1), MAX_WATCHED)

    taught, refusals = None, Refusals()
    if settings.prior == "gmm":
        taught, refusals = learn_classes(data, (records, test), kept, settings, encoder_weights, on)
        if taught.classes is None:
            settings = settings.model_copy(update={"prior": "normal"})
    mixture = taught.classes.mixture if taught is not None and taught.classes is not None else None

    encoder = pretrained(settings.encoder, settings.stages, encoder_weights)
    whole = pretrained(settings.encoder, settings.encoder_stages, encoder_weights)
    torch.manual_seed(settings.seed)
    net = AEFlow(settings, whole, mixture).to(on)
    views = range(1 + settings.augmented_views)
    parts = [(kept, view) for view in views] + [(held, 0), (watched, 0)]
    cache = FeatureCache.of(encoder.to(on), settings)
    tic = time.perf_counter()
    with bar("Features", sum(len(part) for part, _ in parts)) as advance:
        found = [cache.features(part, advance, view) for part, view in parts]
    paces = pace("features", time.perf_counter() - tic, sum(len(part) for part, _ in parts))
    *kept_f, held_f, watched_f = [features for features, _ in found]
    refused = [r for (_, view), (_, part) in zip(parts, found, strict=True) if view == 0 for r in part]
    refusals += [r for r in refused if r[0] not in {record for record, _ in refusals}]
    refusals = refusals_among(refusals)
    different = [len(set(features.contents)) for features in (kept_f[0], held_f)]
    if different[0] < 2 or different[1] < MIN_NORMALS:
        what = f"{different[0]} different readable images to train on and {different[1]} to hold out"
        reason = f" (first refusal: {refusals[0][1]})" if refusals else ""
        needed = math.ceil(MIN_NORMALS / settings.held_out)
        remedy = f"give at least {needed} normal images, no copies of one another"
        raise DataError(Path(data) / "train" / "normal", what + reason, remedy)

    run.mkdir(parents=True, exist_ok=True)
    material = Material(kept_f, held_f, watched_f)
    progress = fit_network(net, settings, run, material, resume)
    paces |= pace("training", sum(row["seconds"] for row in progress.history), progress.epoch * len(kept_f[0]))
    tic = time.perf_counter()
    net.settings, ranked = read_best(net, cache, held_f)
    net.whole.fit(latents(net, kept_f[0]))
    history = [{**row, "best": int(row["epoch"] == progress.best_epoch)} for row in progress.history]
    calibration = calibrate_on(net, held_f.records, taught)
    meant_for = learn_input_guard(net, kept_f, held_f)
    paces |= pace("calibration", time.perf_counter() - tic, len(held_f))
    metadata = {
        "training": {
            "normal_images": len(kept_f[0]),
            "held_out_images": len(held_f),
            "patients": len({record.patient for record in kept_f[0].records}),
            "held_out_patients": len({record.patient for record in held_f.records}),
            "refused_images": len(refusals),
            "leaked_images": leaked.images,
            "fingerprint": material.fingerprint(),
            "epochs": len(history),
            "best_epoch": progress.best_epoch,
            "seconds": round(time.perf_counter() - started, 1),
            **paces,
            "device": str(on),
        },
        "log_det_weights": ranked,
        "lesson": None if taught is None else taught.to_json(),
    }
    model = Artifact(net, net.settings, calibration, meant_for, metadata)
    write_text(run / HISTORY, _csv(history))
    write_text(run / EPOCH_SCORES, json.dumps(progress.epoch_scores))
    Neighbours.of_training(kept_f[0]).save(run)
    save_run(model, run)
    (run / CHECKPOINT).unlink()
    notes = [f"{leaked}; figures on it flatter the model"] if leaked.images else []
    return Trained(model, history, refusals, notes + ([] if taught is None else taught.notes()))


def read_best(net: AEFlow, cache: FeatureCache, held_out: Features) -> tuple[Settings, dict[str, float]]:
    """The settings with what they leave open chosen, see ``reading``; no anomaly is made where they leave nothing."""
    if net.settings.log_det_weight is not None:
        return net.settings, {}
    normals = min(len(held_out), log_det_weight.MAX_ANOMALOUS)
    with bar("Synthetic anomalies", normals * log_det_weight.views_of(normals)) as advance:
        anomalous = log_det_weight.anomalies(cache, held_out, advance)
    return log_det_weight.chosen(net, held_out, anomalous)


@torch.no_grad()
def latents(net: AEFlow, normals: Features) -> torch.Tensor:
    """The deepest latents (n, C, h, w) of some train normals, at most MAX_LATENTS of them."""
    rows, device = evenly(range(len(normals)), MAX_LATENTS), next(net.parameters()).device
    starts = range(0, len(rows), net.settings.batch_size)
    batches = (normals.batch(rows[start : start + net.settings.batch_size])[0] for start in starts)
    return torch.cat([net.encode([z.to(device) for z in features]).u[-1] for features in batches])


def pace(phase: str, seconds: float, images: int) -> dict[str, float]:
    """How long a phase took, and how many images a second went through it."""
    return {f"{phase}_seconds": round(seconds, 1), f"{phase}_images_per_second": round(images / max(seconds, 1e-6), 1)}


def _csv(rows: list[dict[str, float]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _check_run(run: Path, resume: bool, overwrite: bool) -> None:
    if run.exists() and not run.is_dir():
        raise ArtifactError(run, "is a file", "give a folder with --out")
    if overwrite or resume:
        return
    if (run / MODEL_JSON).exists():
        raise ArtifactError(run, "already holds a model", "choose another --out, or replace it with --overwrite")
    if (run / CHECKPOINT).exists():
        raise ArtifactError(run, "holds an unfinished training", "go on with --resume, or replace it with --overwrite")
