"""A data folder -> a trained, calibrated model in its run folder."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from aeflow import artifact as artifacts
from aeflow import calibrate, checkpoint
from aeflow.artifact import Artifact
from aeflow.calibrate import Calibration, MapScale
from aeflow.config import Settings
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.split import evenly, hold_out
from aeflow.errors import ArtifactError, DataError, ImageError
from aeflow.features import FeatureCache
from aeflow.loop import Material, fit
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import pretrained
from aeflow.progress import bar
from aeflow.runtime import pick_device, prepare
from aeflow.score import measure

WATCHED = 100  # train abnormal images whose scores are drawn epoch by epoch; nothing is decided on them
MAPPED = 400  # held-out images from which the maps' scale is taken
HISTORY, EPOCH_SCORES = "history.csv", "epoch_scores.json"

T = TypeVar("T")
Refusals = list[tuple[Record, ImageError]]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives beside the files in its run folder."""

    artifact: Artifact
    history: list[dict[str, float]]
    refusals: Refusals


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

    Raises DataError for too few normals, ArtifactError where ``out`` already holds a model or another training,
    NumericalError naming the layer where training leaves the finite numbers.
    """
    started = time.perf_counter()
    prepare()
    run, on = Path(out), pick_device(device)
    _check_run(run, resume, overwrite)
    records = read_records(data, "train")
    normals = of_label(records, 0, at_least=2, where=Path(data) / "train")
    kept, held = hold_out(normals, settings.held_out, settings.seed)
    watched = evenly(of_label(records, 1), WATCHED)

    encoder = pretrained(settings.encoder, settings.stages, encoder_weights)
    torch.manual_seed(settings.seed)
    net = AEFlow(settings, encoder).to(on)
    views = range(1 + settings.augmented_views)
    parts = [(kept, view) for view in views] + [(held, 0), (watched, 0)]
    cache = FeatureCache(encoder.to(on), settings.image_size)
    with bar("Features", sum(len(part) for part, _ in parts)) as advance:
        found = [cache.features(part, advance, view) for part, view in parts]
    *kept_f, held_f, watched_f = [features for features, _ in found]
    refusals = [
        refusal for (_, view), (_, refused) in zip(parts, found, strict=True) if view == 0 for refusal in refused
    ]
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
    history = [{**row, "best": int(row["epoch"] == progress.best_epoch)} for row in progress.history]
    calibration = calibrate_on(net, held_f.records)
    facts = {
        "training": {
            "normal_images": len(kept_f[0]),
            "held_out_images": len(held_f),
            "patients": len({record.patient for record in kept_f[0].records}),
            "held_out_patients": len({record.patient for record in held_f.records}),
            "refused_images": len(refusals),
            "fingerprint": material.fingerprint(),
            "epochs": len(history),
            "best_epoch": progress.best_epoch,
            "seconds": round(time.perf_counter() - started, 1),
            "device": str(on),
        }
    }
    model = Artifact(net, settings, calibration, facts)
    artifacts.write_text(run / HISTORY, _csv(history))
    artifacts.write_text(run / EPOCH_SCORES, json.dumps(progress.epoch_scores))
    artifacts.save(model, run)
    (run / checkpoint.NAME).unlink()
    return Trained(model, history, refusals)


def calibrate_on(net: AEFlow, held_out: Sequence[Record]) -> Calibration:
    """Calibrate a model on normal images it was not trained on, read and scored as any other."""
    rows, mapped = [], {record.path for record in evenly(held_out, MAPPED)}
    pixels: dict[str, list[np.ndarray[Any, Any]]] = {}
    with bar("Calibrating", len(held_out)) as advance:
        for record, measured in measure(net, held_out, maps=True):
            advance()
            if isinstance(measured, ImageError):  # it could be read a minute ago
                raise measured
            rows.append((measured.flow, measured.reconstruction))
            if record.path in mapped:
                for name, m in measured.maps.items():
                    pixels.setdefault(name, []).append(m.ravel())
    scales = {}
    for name, values in pixels.items():
        low, threshold, high = np.quantile(np.concatenate(values), (0.9, 0.99, 0.999))
        scales[name] = MapScale(float(low), float(high), float(threshold))
    flow, reconstruction = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows])
    return calibrate.fit(net.settings, flow, reconstruction, scales)


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
    if (run / artifacts.FACTS).exists():
        raise ArtifactError(run, "already holds a model", "choose another --out, or replace it with --overwrite")
    if (run / checkpoint.NAME).exists():
        raise ArtifactError(run, "holds an unfinished training", "go on with --resume, or replace it with --overwrite")
