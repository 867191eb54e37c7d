"""Training: a data folder becomes a trained, calibrated model in its run folder, stage by stage."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from aeflow.artifacts.layout import of_run
from aeflow.artifacts.run import Artifact
from aeflow.calibration.calibration import MIN_NORMALS, Calibration, too_few, too_few_patients
from aeflow.config import FLOWGMM, Settings
from aeflow.data.leakage import Leakage, leakage, refuse_leakage
from aeflow.data.plain_folders import TrainingData, place_of, records_of
from aeflow.data.records import Record, Refusals, of_label
from aeflow.data.slices import refusals_among, unfold
from aeflow.data.splits import evenly, hold_out
from aeflow.errors import DataError, count
from aeflow.features.arithmetic import Arithmetic
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.described import Described
from aeflow.model.encoder_weights import pretrained
from aeflow.model.front import Front
from aeflow.model.regions.base import Region
from aeflow.runtime.folders import alone
from aeflow.runtime.process import pick_device, prepare
from aeflow.runtime.progress import bar
from aeflow.training.calibrate import calibrate_on
from aeflow.training.check_counterpart import counterpart_auroc
from aeflow.training.checkpoint import Progress, check_checkpoint
from aeflow.training.complete import choose_log_det_weight, codes, scale_maps
from aeflow.training.find_region import find_region, unused_masks
from aeflow.training.fit_decoder import paint
from aeflow.training.fit_input_guard import learn_input_guard
from aeflow.training.fit_terms import described, fit_terms, images_of
from aeflow.training.learn_classes import LabelledSet, LearntClasses, choose_labelled_set, learn_classes
from aeflow.training.learn_flowgmm import before_flowgmm, check_quarters, learn_flowgmm
from aeflow.training.loop import Material, fit_network, task_of
from aeflow.training.plan import fingerprint, plan_terms
from aeflow.training.run_folder import check_run, inputs_with, write_run

MAX_WATCHED = 100  # train abnormal images whose scores are drawn epoch by epoch; nothing is decided on them


@dataclass(frozen=True, slots=True)
class Trained:
    """Result of a training run: the model, its loss history, refused images and notes for the user."""

    artifact: Artifact
    history: list[dict[str, float]]
    refusals: Refusals
    notes: list[str]


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The images of a data folder, by the part each has in a training."""

    train: list[Record]  # every image of the train split
    test: list[Record]
    kept: list[Record]  # train normals that the flow learns from
    held_out: list[Record]  # train normals that decide when to stop, and calibrate
    watched: list[Record]  # train abnormal images whose scores are only drawn
    leaked: Leakage

    def encoded(self, settings: Settings) -> int:
        """Return the number of images that a training computes features of, cached or not, synthetic ones included."""
        synthetic = images_of(len(self.kept)) if settings.describes else 0
        return (1 + settings.augmented_views) * len(self.kept) + len(self.held_out) + len(self.watched) + synthetic


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
    check_run(run, resume, overwrite)
    with alone(run):
        return _trained(data, run, settings, encoder_weights, painted, device, resume)


def _trained(
    data: TrainingData,
    run: Path,
    settings: Settings,
    encoder_weights: Path | None,
    painted: Path | None,
    device: str,
    resume: bool,
) -> Trained:
    """Train into a run folder that is held."""
    started, paces = time.perf_counter(), Paces()
    prepare()
    on = pick_device(device)
    inputs = inputs_with(data, encoder_weights, painted)
    for name in of_run(run):
        inputs.spare(run / name)
    images = read_images(data, settings)
    of_flowgmm = _of_flowgmm(data, images, settings)
    encoder = pretrained(settings.encoder, settings.encoder_stages, encoder_weights).to(on)
    region = find_region(data, painted, images.kept, settings, encoder)
    arithmetic = Arithmetic.of(on, images.encoded(settings))
    learnt, settings, refusals = _learn_classes(data, images, settings, Front(encoder, region, settings), arithmetic)
    cache = FeatureCache.of(Front(encoder, region, settings), settings, arithmetic=arithmetic)
    material, refused = compute_features(cache, images, settings, paces)
    refusals = _all_refusals(refusals, refused)
    _check_enough(material, settings, data, refusals)
    settings, plan, normals = plan_score(cache, material.views[0], settings)
    net = build_network(before_flowgmm(settings), learnt, region, encoder_weights, on)
    if resume:
        check_checkpoint(run, task_of(net, settings, material, arithmetic))  # before minutes go into terms and decoder
    if of_flowgmm is not None:
        check_quarters(net)
    if normals is not None:
        with paces.of("terms", len(material.views[0])):
            fit_terms(net, material.views, normals, settings.seed, arithmetic)

    with paces.of("decoder", len(material.views[0])):
        paint(net, material.views[0], settings.seed)
    progress = Progress()
    if net.flows or not net.decoder.reads_features:
        progress = fit_network(net, settings, run, material, resume, arithmetic=arithmetic)
        paces.add("training", sum(row["seconds"] for row in progress.history), progress.epoch * len(material.views[0]))
    if of_flowgmm is not None:
        with paces.of("flowgmm", len(of_flowgmm.records)):
            learnt, refused = learn_flowgmm(net, cache, of_flowgmm, material.held_out)
        refusals = _all_refusals(refusals, refused)
    with paces.of("calibration", len(material.held_out)):
        net.settings, ranked = choose_log_det_weight(net, cache, material.held_out)
        scale_maps(net, material.held_out)
        net.latent_pca.fit(codes(net, material.views[0]))
        calibration = calibrate_on(net, material.held_out.records, learnt)
        guard = learn_input_guard(net, material.views, material.held_out)
    shown = counterpart_auroc(net, calibration, material.held_out)
    metadata: dict[str, Any] = {
        "counterpart_auroc": shown,
        "training": {
            **_counts(material, images, refusals, progress),
            "seconds": round(time.perf_counter() - started, 1),
            **paces.values,
            "device": str(on),
        },
        "arithmetic": {**arithmetic.to_json(), "features": ", ".join(material.views[0].by)},
        "plan": list(plan),
        "log_det_weights": ranked,
        "labelled_set": None if learnt is None else learnt.to_json(),
    }
    model = Artifact(net, net.settings, calibration, guard, metadata)
    history = write_run(model, run, material, progress, inputs)
    patients = metadata["training"]["held_out_patients"]
    notes = _notes(images, patients, learnt, calibration, settings)
    return Trained(model, history, refusals, notes + unused_masks(data, painted, images.train, settings))


def read_images(data: TrainingData, settings: Settings) -> TrainingImages:
    """Return the images of a data folder by their part; raises DataError for too few normals, or leaked ones."""
    records = unfold(records_of(data, "train"), settings.slice_axis)
    normals = of_label(records, 0, at_least=2, where=place_of(data, 0))
    test = unfold([r for r in records_of(data) if r.split == "test"], settings.slice_axis)
    leaked = leakage(normals, test)
    if not settings.allow_leakage:
        refuse_leakage(data, leaked)
    kept, held_out = hold_out(normals, settings.held_out, settings.seed)
    if len(kept) < 2 or len(held_out) < MIN_NORMALS:  # before minutes go into their features
        what = f"{count(len(kept), 'image')} to train on and {len(held_out)} to hold out"
        raise DataError(place_of(data, 0), what, _more_normals(settings))
    return TrainingImages(records, test, kept, held_out, evenly(of_label(records, 1), MAX_WATCHED), leaked)


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


def plan_score(
    cache: FeatureCache, kept: Features, settings: Settings
) -> tuple[Settings, tuple[str, ...], Described | None]:
    """Return the settings with the terms planned, the plan in words, and the described normals if positions are."""
    front = cache.encoder
    assert isinstance(front, Front)
    if not front.describes:
        return settings, (), None
    normals = described(front, kept)
    if settings.terms is not None:
        return settings, (f"terms as set: {', '.join(settings.terms)}",), normals
    plan = plan_terms(settings, fingerprint(normals, front.beside))
    axis = settings.mirror_axis or plan.mirror_axis
    planned = settings.model_copy(update={"terms": plan.terms, "mirror_axis": axis})
    return planned, plan.words, replace(normals, mirror_axis=axis)


def build_network(
    settings: Settings, learnt: LearntClasses | None, region: Region | None, weights: Path | None, on: torch.device
) -> AEFlow:
    """Return the network before its training, started by the seed, with the classes and region that were learnt."""
    mixture = learnt.classes.mixture if learnt is not None and learnt.classes is not None else None
    encoder = pretrained(settings.encoder, settings.encoder_stages, weights)
    torch.manual_seed(settings.seed)
    return AEFlow(settings, encoder, mixture, region).to(on)


def compute_features(
    cache: FeatureCache, images: TrainingImages, settings: Settings, paces: Paces
) -> tuple[Material, Refusals]:
    """Return the features of all parts, of kept normals in every view, and the refused images."""
    views = range(1 + settings.augmented_views)
    parts = [(images.kept, view) for view in views] + [(images.held_out, 0), (images.watched, 0)]
    total = sum(len(part) for part, _ in parts)
    with paces.of("features", total), bar("Features", total) as advance:
        found = [cache.features(part, advance, view) for part, view in parts]
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
        raise DataError(place_of(data, 0), what + reason, _more_normals(settings))


def _more_normals(settings: Settings) -> str:
    """Return the remedy for too few train normals."""
    needed = math.ceil(MIN_NORMALS / settings.held_out)
    return f"give at least {needed} normal images, no copies of one another"


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
    return notes + ([] if learnt is None else learnt.notes())
