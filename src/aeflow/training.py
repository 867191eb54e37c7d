"""A data folder -> a trained, calibrated model in its run folder."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from aeflow import artifact as artifacts
from aeflow import calibrate, checkpoint, classes, posterior, reading, recapture, teaching
from aeflow.artifact import Artifact
from aeflow.backends.torch import TorchBackend
from aeflow.calibrate import Calibration
from aeflow.classes import Classes, Pool
from aeflow.config import Settings
from aeflow.data.leakage import leakage, refuse_leakage
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.split import evenly, hold_out
from aeflow.data.unfold import refusals_among, unfold
from aeflow.errors import ArtifactError, DataError, ImageError
from aeflow.features import FeatureCache, Features
from aeflow.loop import Material, fit
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import pretrained
from aeflow.neighbours import Neighbours
from aeflow.progress import bar
from aeflow.runtime import pick_device, prepare
from aeflow.score import measure
from aeflow.store import EPOCH_SCORES, FACTS, HISTORY, write_text
from aeflow.teaching import Lesson

WATCHED = 100  # train abnormal images whose scores are drawn epoch by epoch; nothing is decided on them
WEIGHED = 200  # abnormal images, labelled or found, on which the terms are weighed against each other
WHOLE = 300  # train normals whose latents new ones are drawn after

T = TypeVar("T")
Floats = NDArray[np.float64]
Refusals = list[tuple[Record, ImageError]]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives beside the files in its run folder."""

    artifact: Artifact
    history: list[dict[str, float]]
    refusals: Refusals
    notes: list[str]  # what the user should know of the data


@dataclass(frozen=True, slots=True)
class Taught:
    """The classes of a training, and what they were learnt from."""

    lesson: Lesson
    classes: Classes | None
    pool: Pool | None

    def facts(self) -> dict[str, Any]:
        """Counts for the model's file."""
        kinds = {kind: self.lesson.labels.count(1 + i) for i, kind in enumerate(self.lesson.kinds)}
        return {
            "labelled_images": {kind: count for kind, count in kinds.items() if count},
            "left_out_images": self.lesson.left_out,
            "unlabelled": None if self.pool is None else asdict(self.pool),
        }

    def notes(self) -> list[str]:
        """What the user should know."""
        notes = [self.pool.finding] if self.pool is not None else []
        if self.lesson.left_out:
            reason = "their patients are in the test split, or held out"
            notes.append(f"{self.lesson.left_out} train images teach nothing: {reason}")
        if self.classes is None:
            notes.append("nothing to learn classes from; this is the normals-only model")
        return notes


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
    watched = evenly(of_label(records, 1), WATCHED)

    taught, refusals = None, Refusals()
    if settings.prior == "gmm":
        taught, refusals = teach(data, (records, test), kept, settings, encoder_weights, on)
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
    if different[0] < 2 or different[1] < calibrate.MIN_NORMALS:
        what = f"{different[0]} different readable images to train on and {different[1]} to hold out"
        reason = f" (first refusal: {refusals[0][1]})" if refusals else ""
        needed = math.ceil(calibrate.MIN_NORMALS / settings.held_out)
        remedy = f"give at least {needed} normal images, no copies of one another"
        raise DataError(Path(data) / "train" / "normal", what + reason, remedy)

    run.mkdir(parents=True, exist_ok=True)
    material = Material(kept_f, held_f, watched_f)
    progress = fit(net, settings, run, material, resume)
    paces |= pace("training", sum(row["seconds"] for row in progress.history), progress.epoch * len(kept_f[0]))
    tic = time.perf_counter()
    net.settings, ranked = read_best(net, cache, held_f)
    net.whole.fit(latents(net, kept_f[0]))
    history = [{**row, "best": int(row["epoch"] == progress.best_epoch)} for row in progress.history]
    calibration = calibrate_on(net, held_f.records, taught)
    meant_for = recapture.learn(net, kept_f, held_f)
    paces |= pace("calibration", time.perf_counter() - tic, len(held_f))
    facts = {
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
        "lesson": None if taught is None else taught.facts(),
    }
    model = Artifact(net, net.settings, calibration, meant_for, facts)
    write_text(run / HISTORY, _csv(history))
    write_text(run / EPOCH_SCORES, json.dumps(progress.epoch_scores))
    Neighbours.of_training(kept_f[0]).save(run)
    artifacts.save(model, run)
    (run / checkpoint.NAME).unlink()
    notes = [f"{leaked}; figures on it flatter the model"] if leaked.images else []
    return Trained(model, history, refusals, notes + ([] if taught is None else taught.notes()))


def teach(
    data: Path | str,
    records: tuple[Sequence[Record], Sequence[Record]],
    known: Sequence[Record],
    settings: Settings,
    encoder_weights: Path | None,
    device: torch.device,
) -> tuple[Taught, Refusals]:
    """Learn the classes from known normals, drawn labels and unlabelled images; ``records``: of train, of test."""
    lesson = teaching.choose(data, *records, known, settings)
    if not any(lesson.labels):
        return Taught(lesson, None, None), []
    encoder = pretrained(settings.encoder, settings.class_stages, encoder_weights).to(device)
    lesson, examples, refusals = teaching.read(lesson, encoder, settings)
    if 0 not in lesson.labels:
        raise DataError(Path(data) / "train" / "normal", "no image can be read", f"the first: {refusals[0][1]}")
    return Taught(lesson, *classes.fit(examples, lesson.kinds, settings)), refusals


def read_best(net: AEFlow, cache: FeatureCache, held_out: Features) -> tuple[Settings, dict[str, float]]:
    """The settings with what they leave open chosen, see ``reading``; no anomaly is made where they leave nothing."""
    if net.settings.log_det_weight is not None:
        return net.settings, {}
    normals = min(len(held_out), reading.CHANGED)
    with bar("Synthetic anomalies", normals * reading.views_of(normals)) as advance:
        anomalous = reading.anomalies(cache, held_out, advance)
    return reading.chosen(net, held_out, anomalous)


def calibrate_on(net: AEFlow, held_out: Sequence[Record], taught: Taught | None = None) -> Calibration:
    """Calibrate a model on normal images it was not trained on, read and scored as any other."""
    rows, mapped = [], set(evenly(held_out, calibrate.MAPPED))
    ratios: list[np.ndarray[Any, Any]] = []
    pixels = calibrate.MapPixels()
    with bar("Calibrating", len(held_out)) as advance:
        for record, measured in measure(TorchBackend(net), held_out, maps=True):
            advance()
            if isinstance(measured, ImageError):  # it could be read a minute ago
                raise measured
            rows.append((measured.flow, measured.reconstruction))
            ratios += [] if measured.log_ratios is None else [measured.log_ratios]
            if record in mapped:
                pixels.add(measured.maps)
    flow, reconstruction = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows])
    calibration = calibrate.fit(net.settings, flow, reconstruction, pixels.scales())
    if taught is None or taught.classes is None:
        return calibration
    normals = calibration.normals_only(calibration.terms(flow, reconstruction)), np.stack(ratios)
    share = net.settings.abnormal_share or (taught.pool.share if taught.pool is not None and taught.pool.used else 0.5)
    weighed = _weigh(net, calibration, taught.lesson, taught.classes)
    fitted = posterior.fit(taught.classes.kinds, normals, weighed, share)
    return calibrate.with_posterior(calibration, net.settings, fitted, flow, reconstruction, normals[1])


@torch.no_grad()
def latents(net: AEFlow, normals: Features) -> torch.Tensor:
    """The deepest latents (n, C, h, w) of some train normals, at most WHOLE of them."""
    rows, device = evenly(range(len(normals)), WHOLE), next(net.parameters()).device
    starts = range(0, len(rows), net.settings.batch_size)
    batches = (normals.batch(rows[start : start + net.settings.batch_size])[0] for start in starts)
    return torch.cat([net.encode([z.to(device) for z in features]).u[-1] for features in batches])


def _weigh(net: AEFlow, calibration: Calibration, lesson: Lesson, learnt: Classes) -> tuple[Floats, Floats, Floats]:
    """Normals-only scores, out-of-fold judgements and probabilities of images that are, or look, abnormal."""
    rows = evenly(np.flatnonzero(learnt.abnormal > 0.5).tolist(), WEIGHED)
    scores = np.zeros(len(rows))
    with bar("Weighing", len(rows)) as advance:
        for i, (_, measured) in enumerate(measure(TorchBackend(net), [lesson.records[row] for row in rows])):
            advance()
            if isinstance(measured, ImageError):
                raise measured
            terms = calibration.terms(measured.flow[None], np.array([measured.reconstruction]))
            scores[i] = calibration.normals_only(terms)[0]
    return scores, learnt.judged[rows], learnt.abnormal[rows]


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
    if (run / FACTS).exists():
        raise ArtifactError(run, "already holds a model", "choose another --out, or replace it with --overwrite")
    if (run / checkpoint.NAME).exists():
        raise ArtifactError(run, "holds an unfinished training", "go on with --resume, or replace it with --overwrite")
