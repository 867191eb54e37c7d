"""Training: a data folder becomes a trained, calibrated model in its run folder, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aeflow.artifacts.free_place import check_run
from aeflow.artifacts.run import Artifact
from aeflow.calibration.calibration import MIN_NORMALS, Calibration, too_few, too_few_patients
from aeflow.config import FLOWGMM, Settings
from aeflow.data.plain_folders import TrainingData, place_of
from aeflow.data.records import Refusals
from aeflow.data.slices import refusals_among
from aeflow.errors import DataError, SettingsError, count
from aeflow.features.arithmetic import Arithmetic
from aeflow.features.cache import FeatureCache
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import pretrained
from aeflow.model.front import Front
from aeflow.runtime import ranks
from aeflow.runtime.folders import alone
from aeflow.runtime.inputs import Inputs
from aeflow.runtime.process import pick_device, prepare
from aeflow.runtime.progress import bar
from aeflow.training.build import build_network, plan_score
from aeflow.training.calibrate import calibrate_on
from aeflow.training.check_counterpart import counterpart_auroc
from aeflow.training.checkpoint import Progress, check_checkpoint
from aeflow.training.complete import choose_log_det_weight, codes, scale_maps
from aeflow.training.confirm_pool import confirm_classes
from aeflow.training.find_region import find_region, unused_masks
from aeflow.training.fit_decoder import paint
from aeflow.training.fit_input_guard import learn_input_guard
from aeflow.training.fit_terms import fit_terms
from aeflow.training.learn_classes import (
    LabelledSet,
    LearntClasses,
    choose_labelled_set,
    learn_classes,
    not_learnt_from,
)
from aeflow.training.learn_flowgmm import before_flowgmm, check_quarters, learn_flowgmm
from aeflow.training.loop import Material, fit_network, task_of
from aeflow.training.run_folder import inputs_of, write_run
from aeflow.training.training_images import TrainingImages, more_normals, read_images


@dataclass(frozen=True, slots=True)
class Trained:
    """Result of a training run: the model, its loss history, refused images and notes for the user."""

    artifact: Artifact
    history: list[dict[str, float]]
    refusals: Refusals
    notes: list[str]


@dataclass(slots=True)
class Paces:
    """Seconds of each phase of a training, and its images a second, for the model's file."""

    values: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, phase: str, images: int) -> Iterator[None]:
        """Time a phase that so many images pass through."""
        tic = time.perf_counter()
        yield
        self.add(phase, time.perf_counter() - tic, images)

    def add(self, phase: str, seconds: float, images: int) -> None:
        """Note how long a phase took."""
        self.values[f"{phase}_seconds"] = round(seconds, 1)
        self.values[f"{phase}_images_per_second"] = round(images / max(seconds, 1e-6), 1)


def train(
    data: TrainingData,
    out: Path | str,
    settings: Settings,
    *,
    encoder_weights: Path | None = None,
    painted: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> Trained:
    """Learn from the train normals of ``data`` and write the run folder ``out``.

    ``data``: a data folder, or what ``data.plain_folders.training_data`` gave. ``painted``: folder of masks of 20 to 50
    train normals, from which the region is learnt if the settings say so; by default ``train/region`` of the data.
    Raises DataError for too few normals, or for normals that are in the test split, too, unless
    ``settings.allow_leakage``; ArtifactError if ``out`` already holds a model or another training, NumericalError that
    names the layer if training leaves the finite numbers.
    """
    run = Path(out)
    with ranks.joined(), _held(run, resume, overwrite):
        return _trained(data, run, settings, encoder_weights, painted, device, resume)


@contextmanager
def _held(run: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold the run folder, which only rank 0 writes to."""
    if not ranks.first():
        yield
        return
    check_run(run, resume, overwrite)
    with alone(run):
        yield


def _trained(
    data: TrainingData,
    run: Path,
    settings: Settings,
    encoder_weights: Path | None,
    painted: Path | None,
    device: str,
    resume: bool,
) -> Trained:
    """Train into a run folder that is held.

    Of several processes (``runtime.ranks``) all compute features and train decoder and flow; the rest is rank 0's.
    """
    started, paces = time.perf_counter(), Paces()
    prepare()
    check_divisible(settings)
    on = pick_device(device)
    inputs = inputs_of(data, run, encoder_weights, painted) if ranks.first() else Inputs()
    images = ranks.from_first(lambda: read_images(data, settings))
    of_flowgmm = _of_flowgmm(data, images, settings)
    encoder = pretrained(settings.encoder, settings.encoder_stages, encoder_weights).to(on)
    region = ranks.from_first(lambda: find_region(data, painted, images.kept, settings, encoder))
    arithmetic = ranks.from_first(lambda: Arithmetic.of(on, images.encoded(settings)))
    front = Front(encoder, region, settings)
    learnt, settings, refusals = ranks.from_first(lambda: _learn_classes(data, images, settings, front, arithmetic))
    cache = FeatureCache.of(Front(encoder, region, settings), settings, arithmetic=arithmetic)
    material, refused = compute_features(cache, images, settings, paces)
    refusals = _all_refusals(refusals, refused)
    _check_enough(material, settings, data, refusals)

    def before() -> tuple[AEFlow, Settings, tuple[str, ...]]:
        planned, plan, normals = plan_score(cache, material.views[0], settings)
        net = build_network(before_flowgmm(planned), learnt, region, encoder_weights, on)
        if resume:
            check_checkpoint(run, task_of(net, planned, material, arithmetic))  # before minutes go into the terms
        if of_flowgmm is not None:
            check_quarters(net)
        if normals is not None:
            with paces.of("terms", len(material.views[0])):
                fit_terms(net, material.views, normals, planned.seed, arithmetic)
        return net, planned, plan

    net, planned, plan = ranks.from_first(before)
    with paces.of("decoder", len(material.views[0])):
        paint(net, material.views[0], planned.seed)
    progress = Progress()
    if net.flows or not net.decoder.reads_features:
        progress = fit_network(net, planned, run, material, resume, arithmetic=arithmetic)
        paces.add("training", sum(row["seconds"] for row in progress.history), progress.epoch * len(material.views[0]))

    def complete() -> tuple[AEFlow, LearntClasses | None, Refusals, dict[str, float]]:
        classes, all_refusals = learnt, refusals
        if of_flowgmm is not None:
            with paces.of("flowgmm", len(of_flowgmm.records)):
                classes, refused = learn_flowgmm(net, cache, of_flowgmm, material.held_out)
            all_refusals = _all_refusals(refusals, refused)
        net.settings, ranked = choose_log_det_weight(net, cache, material.held_out)
        if of_flowgmm is None and classes is not None:
            classes = confirm_classes(net, cache, material.held_out, classes)
        scale_maps(net, material.held_out)
        net.latent_pca.fit(codes(net, material.views[0]))
        return net, classes, all_refusals, ranked

    tic = time.perf_counter()
    completed, classes, all_refusals, ranked = ranks.from_first(complete)
    calibration, normals = calibrate_on(completed, material.held_out.records, classes)

    def write() -> Trained:
        guard = learn_input_guard(completed, material.views, material.held_out)
        paces.add(
            "calibration", time.perf_counter() - tic - paces.values.get("flowgmm_seconds", 0.0), len(material.held_out)
        )
        shown = counterpart_auroc(completed, calibration, material.held_out)
        metadata: dict[str, Any] = {
            "counterpart_auroc": shown,
            "training": {
                **_counts(material, images, all_refusals, progress),
                "seconds": round(time.perf_counter() - started, 1),
                **paces.values,
                "device": str(on),
                "processes": ranks.size(),
            },
            "arithmetic": {**arithmetic.to_json(), "features": ", ".join(material.views[0].by)},
            "plan": list(plan),
            "normals": normals.table(calibration, guard).to_json(),
            "log_det_weights": ranked,
            "labelled_set": None if classes is None else classes.to_json(),
        }
        model = Artifact(completed, completed.settings, calibration, guard, metadata)
        history = write_run(model, run, material, progress, inputs)
        patients = metadata["training"]["held_out_patients"]
        notes = _notes(images, patients, classes, calibration, planned)
        return Trained(model, history, all_refusals, notes + unused_masks(data, painted, images.train, settings))

    return ranks.from_first(write)


def check_divisible(settings: Settings) -> None:
    """Raise SettingsError if torchrun cannot divide a batch as one process without it would see it."""
    if ranks.launched() and settings.subnet == "resnet":
        found = "'resnet' normalises over a batch, which torchrun divides"
        raise SettingsError("subnet", found, "choose conv, or train without torchrun")


def _learn_classes(
    data: TrainingData, images: TrainingImages, settings: Settings, front: Front, arithmetic: Arithmetic
) -> tuple[LearntClasses | None, Settings, Refusals]:
    """Learn the classes if the settings ask for them; without any, the settings are those of a normals-only model."""
    if settings.classifier == "none":
        return None, settings, []
    learnt, refusals = learn_classes(data, (images.train, images.test), images.kept, settings, front, arithmetic)
    if learnt.classes is None:
        settings = settings.model_copy(update={"classifier": "none"})
    return learnt, settings, refusals


def _of_flowgmm(data: TrainingData, images: TrainingImages, settings: Settings) -> LabelledSet | None:
    """Return the labelled set that prior ``flowgmm`` is to learn from; None with another prior."""
    if settings.prior != FLOWGMM:
        return None
    return choose_labelled_set(data, images.train, images.test, images.kept, settings)


def compute_features(
    cache: FeatureCache, images: TrainingImages, settings: Settings, paces: Paces
) -> tuple[Material, Refusals]:
    """Return the features of all parts, of kept normals in every view, and the refused images."""
    views = range(1 + settings.augmented_views)
    parts = [(images.kept, view) for view in views] + [(images.held_out, 0), (images.watched, 0)]
    total = sum(len(part) for part, _ in parts)
    with paces.of("features", total), bar("Features", total) as advance:
        found = [cache.divided(part, advance, view) for part, view in parts]
    *kept, held_out, watched = [features for features, _ in found]
    refused = [r for (_, view), (_, refusals) in zip(parts, found, strict=True) if view == 0 for r in refusals]
    return Material(kept, held_out, watched), refused


def _all_refusals(first: Refusals, second: Refusals) -> Refusals:
    """Return both lists with each record once; empty slices are no refusals."""
    known = {record for record, _ in first}
    return refusals_among([*first, *(refusal for refusal in second if refusal[0] not in known)])


def _check_enough(material: Material, settings: Settings, data: TrainingData, refusals: Refusals) -> None:
    """Raise DataError if too few different normals can be read to train on, or to hold out."""
    different = [len(set(features.contents)) for features in (material.views[0], material.held_out)]
    if different[0] < 2 or different[1] < MIN_NORMALS:
        what = f"{count(different[0], 'different readable image')} to train on and {different[1]} to hold out"
        reason = f" (first refusal: {refusals[0][1]})" if refusals else ""
        raise DataError(place_of(data, 0), what + reason, more_normals(settings))


def _counts(material: Material, images: TrainingImages, refusals: Refusals, progress: Progress) -> dict[str, Any]:
    """Return what the model's file says about the images and epochs of the training."""
    kept, held_out = material.views[0], material.held_out
    return {
        "normal_images": len(kept),
        "held_out_images": len(held_out),
        "patients": len({record.patient for record in kept.records}),
        "held_out_patients": len({record.patient for record in held_out.records}),
        "refused_images": len(refusals),
        "leaked_images": images.leaked.images,
        "fingerprint": material.fingerprint(),
        "epochs": len(progress.history),
        "best_epoch": progress.best_epoch,
    }


def _notes(
    images: TrainingImages,
    patients: int,
    learnt: LearntClasses | None,
    calibration: Calibration,
    settings: Settings,
) -> list[str]:
    """Return what the user should know of the data; ``patients`` are those of the held-out normals."""
    notes = [f"{images.leaked}; figures on it flatter the model"] if images.leaked.images else []
    if few := too_few(len(calibration.scores), "held-out normal", settings.false_positive_rate, settings.held_out):
        notes.append(f"{few}; of this threshold: {calibration.rule}")
    if few := too_few_patients(len(calibration.scores), patients, settings.false_positive_rate):
        notes.append(f"the held-out {few}")
    if learnt is not None:
        return notes + learnt.notes()
    return notes + ([] if (unused := not_learnt_from(images.train)) is None else [unused])
