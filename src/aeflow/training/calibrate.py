"""Calibration of a trained model on held-out normal images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aeflow._types import Floats
from aeflow.backends.torch import TorchBackend
from aeflow.calibration.calibration import Calibration, fit_calibration, with_posterior
from aeflow.calibration.held_out import MeasuredNormals
from aeflow.calibration.map_scale import MAX_MAPPED_NORMALS, MapPixels
from aeflow.calibration.posterior import fit_posterior
from aeflow.config import Settings
from aeflow.data.records import Record
from aeflow.data.splits import evenly
from aeflow.imageio.errors import ImageError
from aeflow.model.aeflow import AEFlow
from aeflow.runtime.progress import bar
from aeflow.scoring.scorer import Measured, measure
from aeflow.training.class_mixture_em import MixtureFit
from aeflow.training.learn_classes import LabelledSet, LearntClasses

MAX_WEIGHED = 200  # abnormal images, labelled or found, on which the weight of the classes' term is fitted


def calibrate_on(
    net: AEFlow, held_out: Sequence[Record], learnt: LearntClasses | None = None
) -> tuple[Calibration, MeasuredNormals]:
    """Calibrate a model on normal images it was not trained on, read and scored as any other; return their measures."""
    rows: list[Measured] = []
    mapped, pixels = set(evenly(held_out, MAX_MAPPED_NORMALS)), MapPixels()
    with bar("Calibrating", len(held_out)) as advance:
        for record, measured in measure(TorchBackend(net), held_out, maps=True):
            advance()
            if isinstance(measured, ImageError):  # it could be read before the training
                raise measured
            if record in mapped:
                pixels.add(measured.maps, measured.region)
            rows.append(replace(measured, maps={}, image=None, region=None))
    normals = together(net.settings, rows, [record.patient for record in held_out])
    calibration = fit_calibration(net.settings, normals.measures, pixels.scales())
    if learnt is None or learnt.classes is None or normals.log_ratios is None:
        return calibration, normals
    scores = calibration.normals_only(calibration.terms(normals.measures))
    share = net.settings.abnormal_share or (learnt.pool.share if learnt.pool is not None and learnt.pool.used else 0.5)
    weighed = _weigh(net, calibration, learnt.labelled_set, learnt.classes)
    fitted = fit_posterior(learnt.classes.kinds, (scores, normals.log_ratios), weighed, share)
    return with_posterior(calibration, net.settings, fitted, normals.measures, normals.log_ratios), normals


def together(settings: Settings, images: Sequence[Measured], patients: Sequence[str]) -> MeasuredNormals:
    """Return the measures of normal images as one."""
    ratios = [image.log_ratios for image in images if image.log_ratios is not None]
    return MeasuredNormals(
        {name: np.stack([image.measures[name] for image in images]) for name in settings.chosen_terms},
        np.stack(ratios) if ratios else None,
        np.stack([image.input_statistics for image in images]),
        patients,
    )


def _weigh(
    net: AEFlow, calibration: Calibration, labelled_set: LabelledSet, fit: MixtureFit
) -> tuple[Floats, Floats, Floats]:
    """Return normals-only scores, out-of-fold judgements and probabilities of images that are, or look, abnormal."""
    rows = evenly(np.flatnonzero(fit.abnormal > 0.5).tolist(), MAX_WEIGHED)
    scores = np.zeros(len(rows))
    with bar("Weighing", len(rows)) as advance:
        for i, (_, measured) in enumerate(measure(TorchBackend(net), [labelled_set.records[row] for row in rows])):
            advance()
            if isinstance(measured, ImageError):
                raise measured
            terms = calibration.terms({name: measure[None] for name, measure in measured.measures.items()})
            scores[i] = calibration.normals_only(terms)[0]
    return scores, fit.judged[rows], fit.abnormal[rows]
