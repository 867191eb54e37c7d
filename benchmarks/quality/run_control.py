"""One control: fitted on the kept train normals, and judged on the test images, both from cached features."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from aeflow._types import Floats
from aeflow.calibration.map_scale import MapScale
from aeflow.config import Settings
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import hold_out
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.metrics.pixel import PixelMetrics
from aeflow.model.encoder_weights import pretrained
from aeflow.model.front import Front
from aeflow.runtime.process import pick_device
from aeflow.training.find_region import find_region
from aeflow.training.training_images import read_images
from benchmarks.inputs import features_of
from benchmarks.quality import controls, trained_controls
from benchmarks.quality.controls import BATCH, Judge, Normals
from benchmarks.quality.methods import Method
from benchmarks.quality.outcome import Outcome, count_pixels

CONTROL_STAGES = (2, 3, 4)  # strides 8, 16, 32 of the embedded encoder; settings "at" are places in here
CONTROLS: dict[str, Callable[..., Judge]] = {  # by the beginning of the method's name
    "Gaussian": controls.gaussian,
    "nearest vectors": controls.nearest_vectors,
    "nearest patches": controls.nearest_patches,
    "raw intensity": controls.intensity,
    "plain autoencoder": trained_controls.autoencoder,
    "FastFlow-style": trained_controls.fastflow,
}


def control_outcomes(
    method: Method, data: Path, seed: int, test: Sequence[Record], encoding: float
) -> dict[str, Outcome]:
    """Return the outcome of each row of a control; ``encoding`` are the seconds of the test images' features."""
    settings = method.settings_of(seed)
    cache = cache_of(method, data, settings)
    kept, held = hold_out(of_label(read_records(data, "train"), 0), settings.held_out, settings.seed)
    views = range(1 + settings.augmented_views) if method.trained_as_flow else (0,)
    normals = Normals([features_of(cache, kept, view) for view in views], features_of(cache, held), settings)
    tested, tic = features_of(cache, test), time.perf_counter()
    judge = fit(method, normals)
    fitted = time.perf_counter() - tic
    outcomes, own = judged(judge, normals.held, tested, settings.image_size)
    for outcome in outcomes.values():
        outcome.seconds = {"train_seconds": fitted, "score_seconds": own + encoding}
        if method.name == "raw intensity":  # a map is all that it is
            outcome.scores = outcome.held_out = None
    return outcomes


def cache_of(method: Method, data: Path, settings: Settings, weights: Path | None = None) -> FeatureCache:
    """Return the cache of the frozen features that a method reads: those of a training's front, or the controls'."""
    if method.features == "controls":
        return FeatureCache.of(pretrained(settings.encoder, CONTROL_STAGES), settings)
    encoder = pretrained(settings.encoder, settings.encoder_stages, weights).to(pick_device("auto"))
    region = find_region(data, None, read_images(data, settings).kept, settings, encoder)
    return FeatureCache.of(Front(encoder, region, settings), settings)


def fit(method: Method, normals: Normals) -> Judge:
    """Fit the control that the method names."""
    [control] = [control for name, control in CONTROLS.items() if method.name.startswith(name)]
    return control(normals, **method.settings)


def judged(judge: Judge, held: Features, tested: Features, size: int) -> tuple[dict[str, Outcome], float]:
    """Return the outcome of each row and the seconds of judging; pixel metrics if there are masks."""
    masks = any(record.mask for record in tested.records)
    of_held: dict[str, list[Floats]] = {}
    pixels: dict[str, list[Floats]] = {}
    for batch in held.batches(BATCH):
        for name, one in judge(*batch).items():
            of_held.setdefault(name, []).append(one.scores.double().numpy())
            if masks and one.maps is not None:
                pixels.setdefault(name, []).append(upsampled(one.maps, size).ravel())
    metrics = {name: pixel_metrics(np.concatenate(values)) for name, values in pixels.items()}
    scores: dict[str, list[Floats]] = {name: [] for name in of_held}
    seconds = 0.0
    for start in range(0, len(tested), BATCH):
        rows = range(start, min(start + BATCH, len(tested)))
        batch, tic = tested.batch(rows), time.perf_counter()
        found = judge(*batch)
        seconds += time.perf_counter() - tic
        for name, one in found.items():
            scores[name].append(one.scores.double().numpy())
            if name in metrics and one.maps is not None:
                count_pixels(metrics[name], upsampled(one.maps, size), [tested.records[row] for row in rows])
    outcomes = {
        name: Outcome(
            np.concatenate(scores[name]),
            np.concatenate(of_held[name]),
            {"map": metrics[name].result()} if name in metrics else None,
        )
        for name in of_held
    }
    return outcomes, seconds


def upsampled(maps: torch.Tensor, size: int) -> Floats:
    """Return maps (B, h, w) at the image's size."""
    found = F.interpolate(maps[:, None].float(), (size, size), mode="bilinear", align_corners=False)[:, 0]
    return np.asarray(found.double().numpy())


def pixel_metrics(normal: Floats) -> PixelMetrics:
    """Return empty metrics on the scale that a calibration takes from the pixels of held-out normals."""
    scale = MapScale.of(normal)
    return PixelMetrics((scale.low, scale.high), scale.threshold)
