"""Calibration of a trained model on held-out normal images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from aeflow._types import Floats, Floats32
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
from aeflow.runtime import ranks
from aeflow.runtime.progress import bar
from aeflow.scoring.scorer import BATCH, Measured, measure
from aeflow.training.class_mixture_em import MixtureFit
from aeflow.training.learn_classes import LabelledSet, LearntClasses


def calibrate_on(
    net: AEFlow, held_out: Sequence[Record], learnt: LearntClasses | None = None
) -> tuple[Calibration, MeasuredNormals]:
    """Calibrate a model on normal images it was not trained on, read and scored as any other; return their measures.

    Several processes (``runtime.ranks``) measure whole batches each; rank 0 does the rest.
    """
    parts = ranks.to_first(_measured(net, held_out))
    return ranks.from_first(lambda: _calibrated(net, held_out, parts, learnt))


@dataclass(slots=True)
class _Measured:
    """Held-out normals as they were measured."""

    images: list[Measured] = field(default_factory=list)  # without maps
    mapped: list[tuple[dict[str, Floats32], Floats32 | None]] = field(default_factory=list)  # maps and region of some


def _measured(net: AEFlow, held_out: Sequence[Record]) -> _Measured:
    """Measure this process's share of the held-out normals."""
    found, mapped, mine = _Measured(), set(evenly(held_out, MAX_MAPPED_NORMALS)), ranks.share(held_out, BATCH)
    with bar("Calibrating", len(mine)) as advance:
        for record, measured in measure(TorchBackend(net), mine, maps=True, pictures=True):
            advance()
            if isinstance(measured, ImageError):  # it could be read before the training
                raise measured
            if record in mapped:
                found.mapped.append((measured.maps, measured.region))
            found.images.append(measured.without_pixels())
    return found


def _calibrated(
    net: AEFlow, held_out: Sequence[Record], parts: Sequence[_Measured], learnt: LearntClasses | None
) -> tuple[Calibration, MeasuredNormals]:
    """Fit the calibration on all held-out normals."""
    pixels = MapPixels()
    for maps, region in (one for part in parts for one in part.mapped):
        pixels.add(maps, region)
    images = [image for part in parts for image in part.images]
    normals = together(net.settings, images, [record.patient for record in held_out])
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
    rows = fit.likely_abnormal()
    scores = np.zeros(len(rows))
    with bar("Weighing", len(rows)) as advance:
        for i, (_, measured) in enumerate(measure(TorchBackend(net), [labelled_set.records[row] for row in rows])):
            advance()
            if isinstance(measured, ImageError):
                raise measured
            terms = calibration.terms({name: measure[None] for name, measure in measured.measures.items()})
            scores[i] = calibration.normals_only(terms)[0]
    return scores, fit.judged[rows], fit.abnormal[rows]
