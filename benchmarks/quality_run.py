"""One method, one data set, one seed, in a process of its own: ``quality.py`` starts it and reads what it leaves.

    python benchmarks/quality_run.py --method NAME --data SET --seed N --work FOLDER --out FOLDER

Leaves ``rows.json``, figures by row, and ``scores.npz``, scores by row, in the order of ``read_records(SET, "test")``.
With ``--method features`` it computes the features that all methods share, and says how long that took.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray

import aeflow
import quality_controls as controls
from aeflow.artifacts import run as artifacts
from aeflow.artifacts.layout import MODEL_JSON, read_metadata
from aeflow.artifacts.run import Artifact
from aeflow.calibration import calibration as calibrate
from aeflow.calibration.map_scale import MapScale
from aeflow.config import Settings, make_settings
from aeflow.data.loader import mask_of
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out
from aeflow.evaluation.evaluate import Threshold
from aeflow.features.cache import FeatureCache
from aeflow.features.dataset import Features
from aeflow.imageio.errors import ImageError
from aeflow.metrics.image import image_metrics
from aeflow.metrics.pixel import PixelMetrics
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import pretrained
from aeflow.model.output_names import MAPS
from aeflow.runtime.machine import machine
from aeflow.runtime.process import pick_device, prepare
from aeflow.scoring.scorer import Score, Scorer, score
from aeflow.training import train as training
from quality_controls import BATCH, Judge, Normals
from quality_methods import BY_NAME, Method

CONTROL_STAGES = (2, 3, 4)  # strides 8, 16, 32 of the embedded encoder; settings "at" are places in here
FIGURES = ("auroc", "average_precision", "oracle")
AT_THRESHOLD = ("f1", "accuracy", "sensitivity", "specificity")
FEATURES = "features.json"
Floats = NDArray[np.float64]


@dataclass(slots=True)
class Outcome:
    """What a method says of the test split, and what that took."""

    scores: ArrayLike | None  # (N,), None where it has none
    held: ArrayLike | None = None  # of the held-out train normals: a threshold comes from them
    pixel: dict[str, Any] | None = None  # pixel metrics of each kind of map
    seconds: dict[str, float] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="folder of the trainings of this set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder-weights", type=Path)
    options = parser.parse_args()
    prepare()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.method == "features":
        (options.work / FEATURES).write_text(json.dumps(share_features(options.data)))
        return
    method, test = BY_NAME[options.method], read_records(options.data, "test")
    if method.group in ("aeflow", "labels"):
        outcomes = {"": of_aeflow(method, options, test)}
    elif method.group == "control" or method.name == "raw intensity":
        outcomes = of_control(method, options, test)
    elif method.name == "file size":
        outcomes = {"": Outcome(controls.file_sizes(test))}
    else:
        outcomes = {"": Outcome(None, more=controls.all_abnormal([int(record.label or 0) for record in test]))}
    leave(options.out, method, test, outcomes)


def leave(out: Path, method: Method, test: Sequence[Record], outcomes: dict[str, Outcome]) -> None:
    """Write what ``quality.py`` reads."""
    out.mkdir(parents=True, exist_ok=True)
    rows = {method.name + name: figures(outcome, test) for name, outcome in outcomes.items()}
    scores = {method.name + name: outcome.scores for name, outcome in outcomes.items() if outcome.scores is not None}
    np.savez(out / "scores.npz", **{name: np.asarray(of_row, np.float64) for name, of_row in scores.items()})
    (out / "rows.json").write_text(json.dumps(rows))


def figures(outcome: Outcome, test: Sequence[Record]) -> dict[str, Any]:
    """One row of the results: intervals over patients; no threshold is taken from the test split, but ``oracle``."""
    found: dict[str, Any] = {**outcome.seconds, **outcome.more, "pixel": outcome.pixel}
    if outcome.scores is None:
        return found
    labels, patients = [int(record.label or 0) for record in test], [record.patient for record in test]
    threshold = math.inf if outcome.held is None else conformal(outcome.held)
    metrics = image_metrics(outcome.scores, labels, patients, Threshold(threshold, ""))
    names = FIGURES if outcome.held is None else FIGURES + AT_THRESHOLD
    return {**{name: metrics[name] for name in names}, **found}


def conformal(held: ArrayLike) -> float:
    """The threshold that a calibration takes from the scores of held-out normals."""
    return calibrate.conformal_threshold(np.asarray(held, np.float64), make_settings().false_positive_rate)[1]


# Features


def share_features(data: Path) -> dict[str, dict[str, float]]:
    """Seconds for the features of the train normals, all their views, and of the test images, by the stages taken."""
    settings, train = make_settings(), read_records(data, "train")
    normals, watched = of_label(train, 0), evenly(of_label(train, 1), training.MAX_WATCHED)
    taken = {"flow": settings.stages, "controls": CONTROL_STAGES}
    found: dict[str, dict[str, float]] = {}
    for name, stages in taken.items():
        cache, tic = FeatureCache.of(pretrained(settings.encoder, stages), settings), time.perf_counter()
        for view in range(1 + settings.augmented_views) if name == "flow" else (0,):
            whole(cache, normals, view)
        train_seconds = time.perf_counter() - tic
        if name == "flow":
            whole(cache, watched)
        tic = time.perf_counter()
        whole(cache, read_records(data, "test"))
        found[name] = {"train_seconds": train_seconds, "test_seconds": time.perf_counter() - tic}
    return found


def whole(cache: FeatureCache, records: Sequence[Record], view: int = 0) -> Features:
    """The features of all records; raises the first refusal."""
    features, refused = cache.features(records, view=view)
    if refused:
        raise refused[0][1]
    return features


# Controls


def of_control(method: Method, options: argparse.Namespace, test: list[Record]) -> dict[str, Outcome]:
    """Fit a control on the kept train normals and judge the test images, both from cached features."""
    settings = method.settings_of(options.seed)
    stages = settings.stages if method.trained_as_flow else CONTROL_STAGES
    cache = FeatureCache.of(pretrained(settings.encoder, stages), settings)
    kept, held = hold_out(of_label(read_records(options.data, "train"), 0), settings.held_out, settings.seed)
    views = range(1 + settings.augmented_views) if method.trained_as_flow else (0,)
    normals = Normals([whole(cache, kept, view) for view in views], whole(cache, held), settings)
    tested, tic = whole(cache, test), time.perf_counter()
    judge = fit(method, normals)
    fitted = time.perf_counter() - tic
    outcomes = judged(judge, normals.held, tested, settings.image_size)
    shared = json.loads((options.work / FEATURES).read_text())["flow" if method.trained_as_flow else "controls"]
    for outcome in outcomes.values():
        outcome.seconds = {"train_seconds": fitted, "score_seconds": outcome.seconds["own"] + shared["test_seconds"]}
        if method.name == "raw intensity":  # a map is all that it is
            outcome.scores = outcome.held = None
    return outcomes


def fit(method: Method, normals: Normals) -> Judge:
    """The control by its name."""
    from quality_trained import autoencoder, fastflow

    kinds: dict[str, Callable[..., Judge]] = {
        "Gaussian": controls.gaussian,
        "nearest vectors": controls.nearest_vectors,
        "nearest patches": controls.nearest_patches,
        "raw intensity": controls.intensity,
        "plain autoencoder": autoencoder,
        "FastFlow-style": fastflow,
    }
    [kind] = [kind for name, kind in kinds.items() if method.name.startswith(name)]
    return kind(normals, **method.settings)


def judged(judge: Judge, held: Features, tested: Features, size: int) -> dict[str, Outcome]:
    """The scores of held-out normals and test images, and the pixel metrics of the maps where there are masks."""
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
    own = 0.0
    for start in range(0, len(tested), BATCH):
        rows = range(start, min(start + BATCH, len(tested)))
        batch, tic = tested.batch(rows), time.perf_counter()
        found = judge(*batch)
        own += time.perf_counter() - tic
        for name, one in found.items():
            scores[name].append(one.scores.double().numpy())
            if name in metrics and one.maps is not None:
                count(metrics[name], upsampled(one.maps, size), [tested.records[row] for row in rows])
    return {
        name: Outcome(
            np.concatenate(scores[name]),
            np.concatenate(of_held[name]),
            {"map": metrics[name].result()} if name in metrics else None,
            {"own": own},
        )
        for name in of_held
    }


def upsampled(maps: torch.Tensor, size: int) -> Floats:
    """Maps (B, h, w) at the image's size."""
    found = F.interpolate(maps[:, None].float(), (size, size), mode="bilinear", align_corners=False)[:, 0]
    return found.double().numpy()


def pixel_metrics(normal: Floats) -> PixelMetrics:
    """On the scale that a calibration would take from the pixels of held-out normals."""
    scale = MapScale.of(normal)
    return PixelMetrics((scale.low, scale.high), scale.threshold)


def count(metrics: PixelMetrics, maps: ArrayLike, records: Sequence[Record]) -> None:
    """Count the maps of those images that have a mask."""
    for one, record in zip(np.asarray(maps), records, strict=True):
        if (mask := mask_of(record, one.shape[-1])) is not None:
            metrics.update(one, mask, record.patient)


# aeflow


def of_aeflow(method: Method, options: argparse.Namespace, test: list[Record]) -> Outcome:
    """Train, or teach, and score as a user would; seconds of scoring include reading and encoding the images."""
    settings, tic = method.settings_of(options.seed), time.perf_counter()
    if method.group == "labels":
        scorer, shared = taught(options.data, run_of(options, BY_NAME["default"]), settings)
    else:
        weights, changes, shared = options.encoder_weights, {**method.settings, "seed": options.seed}, 0.0
        run = run_of(options, method)
        scorer = aeflow.train(
            options.data, run, preset=method.preset, encoder_weights=weights, overwrite=True, **changes
        ).scorer
    seconds, tic = shared + time.perf_counter() - tic, time.perf_counter()
    scores, pixel, counting = scored(scorer, test)
    took = {"train_seconds": seconds, "score_seconds": time.perf_counter() - tic - counting}
    gpu = machine()["gpu"]
    return Outcome(scores, scorer.calibration.scores, pixel, took, {"gpu": gpu} if gpu else {})


def run_of(options: argparse.Namespace, method: Method) -> Path:
    """Where a training is kept."""
    run: Path = options.work / f"{method.name} {options.seed}"
    return run


def taught(data: Path, run: Path, settings: Settings) -> tuple[Scorer, float]:
    """FlowGMM on the flow of a default run, and the seconds of training that flow.

    `aeflow train --labels` trains the very same flow; five seeds of it are enough.
    """
    plain = settings.model_copy(update={"prior": "normal", "labels": None})
    if not (run / MODEL_JSON).exists() or not plain.completed_as(Settings(**read_metadata(run)["settings"])):
        training.train(data, run, plain, overwrite=True)
    base = artifacts.load_run(run, pick_device("auto"))
    settings = settings.model_copy(update={"log_det_weight": base.settings.log_det_weight})
    records, test = read_records(data, "train"), read_records(data, "test")
    kept, held = hold_out(of_label(records, 0), settings.held_out, settings.seed)
    lesson, refused = training.learn_classes(data, (records, test), kept, settings, None, base.device)
    if refused:
        raise refused[0][1]
    assert lesson.classes is not None
    encoder = pretrained(settings.encoder, settings.encoder_stages)
    net = AEFlow(settings, encoder, lesson.classes.mixture).to(base.device)
    own = {name: value for name, value in base.net.state_dict().items() if not name.startswith("encoder.")}
    left = net.load_state_dict(own, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith(("encoder.", "classes.")) for name in left.missing_keys)
    calibration = training.calibrate_on(net.eval(), held, lesson)
    model = Artifact(net, settings, calibration, base.input_guard)
    return model.scorer, float(base.metadata["training"]["training_seconds"])


def scored(scorer: Scorer, test: list[Record]) -> tuple[Floats, dict[str, Any] | None, float]:
    """Scores, pixel metrics of each kind of map where there are masks, and the seconds that these metrics took."""
    calibration, masks = scorer.calibration, any(record.mask for record in test)
    pixels = {name: PixelMetrics(calibration.scales[name], calibration.maps[name].threshold) for name in MAPS}
    scores, counting = [], 0.0
    for record, result in score(scorer, test, maps=masks):
        if isinstance(result, ImageError):
            raise result
        assert isinstance(result, Score)
        scores.append(result.value)
        tic = time.perf_counter()
        for name, metrics in pixels.items() if record.mask else ():
            count(metrics, result.maps[name][None], [record])
        counting += time.perf_counter() - tic
    tic = time.perf_counter()
    pixel = {name: metrics.result() for name, metrics in pixels.items()} if masks else None
    return np.array(scores), pixel, counting + time.perf_counter() - tic


if __name__ == "__main__":
    main()
