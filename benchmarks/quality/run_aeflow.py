"""One training of aeflow, or one set of labels on a trained flow, scored as a user would."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import aeflow
from aeflow._types import Floats
from aeflow.artifacts import run as artifacts
from aeflow.artifacts.layout import MODEL_JSON, read_metadata
from aeflow.artifacts.run import Artifact
from aeflow.config import Settings
from aeflow.data.loader import mask_of, region_of
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import hold_out
from aeflow.evaluation.localisation import WhereMapsLook
from aeflow.metrics.pixel import PixelMetrics
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import pretrained
from aeflow.model.front import Front
from aeflow.model.output_names import MAPS
from aeflow.runtime.machine import machine
from aeflow.runtime.process import pick_device
from aeflow.scoring.scorer import Scorer
from aeflow.training import train as training
from aeflow.training.calibrate import calibrate_on
from aeflow.training.learn_classes import learn_classes
from benchmarks.inputs import scores_of
from benchmarks.quality.methods import BY_NAME, Method
from benchmarks.quality.outcome import Outcome


def aeflow_outcome(
    method: Method, data: Path, seed: int, test: Sequence[Record], work: Path, encoder_weights: Path | None
) -> Outcome:
    """Train, or learn the classes, and score; seconds of scoring include reading and encoding the images."""
    settings, tic, shared = method.settings_of(seed), time.perf_counter(), 0.0
    if method.group == "labels":
        scorer, shared = with_classes(data, run_folder(work, BY_NAME["aeflow-1"], seed), settings)
    else:
        training.train(data, run_folder(work, method, seed), settings, encoder_weights=encoder_weights, overwrite=True)
    trained, tic = shared + time.perf_counter() - tic, time.perf_counter()
    if method.group == "aeflow":
        scorer = aeflow.load(run_folder(work, method, seed)).scorer  # by the backend that `aeflow evaluate` takes
    scores, maps, counting = scored(scorer, test)
    seconds = {"train_seconds": trained, "score_seconds": time.perf_counter() - tic - counting}
    gpu = machine()["gpu"]
    return Outcome(scores, scorer.calibration.scores, **maps, seconds=seconds, more={"gpu": gpu} if gpu else {})


def run_folder(work: Path, method: Method, seed: int) -> Path:
    """Return the folder in which a training is kept."""
    return work / f"{method.name} {seed}"


def with_classes(data: Path, run: Path, settings: Settings) -> tuple[Scorer, float]:
    """Learn classes on the flow of a run of aeflow-1; return the scorer and the seconds of training that flow.

    `aeflow train --labels` trains the very same flow; five seeds of it are enough.
    """
    plain = settings.model_copy(update={"classifier": "none", "labels": None})
    if not (run / MODEL_JSON).exists() or not plain.completed_as(Settings(**read_metadata(run)["settings"])):
        training.train(data, run, plain, overwrite=True)
    base = artifacts.load_run(run, pick_device("auto"))
    settings = settings.model_copy(update={"log_det_weight": base.settings.log_det_weight})
    records, test = read_records(data, "train"), read_records(data, "test")
    kept, held = hold_out(of_label(records, 0), settings.held_out, settings.seed)
    encoder = pretrained(settings.encoder, settings.encoder_stages).to(base.device)
    front = Front(encoder, base.net.region, settings)
    learnt, refused = learn_classes(data, (records, test), kept, settings, front)
    if refused:
        raise refused[0][1]
    assert learnt.classes is not None
    net = AEFlow(settings, encoder, learnt.classes.mixture).to(base.device)
    own = {name: value for name, value in base.net.state_dict().items() if not name.startswith("encoder.")}
    left = net.load_state_dict(own, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith(("encoder.", "classes.")) for name in left.missing_keys)
    calibration, _ = calibrate_on(net.eval(), held, learnt)
    model = Artifact(net, settings, calibration, base.input_guard)
    return model.scorer, float(base.metadata["training"]["training_seconds"])


def scored(scorer: Scorer, test: Sequence[Record]) -> tuple[Floats, dict[str, Any], float]:
    """Return scores, figures of the maps where there are masks, as metrics.json has them, and the seconds of these."""
    calibration, size = scorer.calibration, scorer.settings.image_size
    masks, regions = any(record.mask for record in test), any(record.region for record in test)
    pixels = {name: PixelMetrics(calibration.map_limits[name], calibration.maps[name].threshold) for name in MAPS}
    where = WhereMapsLook(scorer.settings.seed)
    scores, counting = [], 0.0
    for record, result in scores_of(scorer, test, maps=masks or regions, pictures=masks):  # the residual needs them
        scores.append(result.value)
        tic = time.perf_counter()
        mask, region = mask_of(record, size), region_of(record, size)
        if mask is not None:
            for name, metrics in pixels.items():
                metrics.update(result.maps[name], mask, record.patient)
        if mask is not None or region is not None:
            counts = None if result.region is None else result.region > 0.5
            where.add(record, result.maps["anomaly"], mask, region, counts)
        counting += time.perf_counter() - tic
    tic = time.perf_counter()
    pixel = {name: metrics.result() for name, metrics in pixels.items()} if masks else None
    found = {"pixel": pixel, "localisation": where.result()}
    return np.array(scores), found, counting + time.perf_counter() - tic
