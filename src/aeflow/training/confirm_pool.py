"""Second opinion on what was found in a pool: the score of the model of normals, which has seen none of it.

Any pool has a most extreme part, and the classes that were fitted to it call it abnormal: they prove themselves. Where
no label was given, the classes stay only if the images found lie ``SEEN_AT`` above held-out normals in the
normals-only score, on average. `benchmarks.studies.found_in_pools` measures on train folders what becomes of the
others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aeflow._types import Floats
from aeflow.calibration.calibration import fit_calibration
from aeflow.config import UNCHOSEN
from aeflow.data.records import Record
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.training.class_mixture_em import MixtureFit, Pool
from aeflow.training.learn_classes import LabelledSet, LearntClasses
from aeflow.training.log_det_weight import measures_under

SEEN_AT = 2.5  # standard deviations of the held-out normals; below it no pool on three train folders gained anything


def separation(normals: Floats, found: Floats, abnormal: Floats) -> float:
    """Return how far the scores ``found`` (m,) lie above those of ``normals`` (n,), in the latter's deviations.

    Each counts with its probability ``abnormal`` (m,) of being abnormal. Nothing found lies nowhere above.
    """
    if not len(found):
        return 0.0
    return float((np.average(found, weights=abnormal) - normals.mean()) / normals.std(ddof=1))


def second_opinion(pool: Pool, normals: Floats, found: Floats, abnormal: Floats) -> Pool:
    """Return the findings in a pool, not used unless the scores stand apart (``separation``) by SEEN_AT."""
    if separation(normals, found, abnormal) >= SEEN_AT:
        return pool
    what = "what sets a part of the unlabelled images apart does not look abnormal to the model of the normals"
    return replace(pool, used=False, finding=f"{what}: they are not used; label ten images")


def confirmed(
    net: AEFlow, cache: FeatureCache, held_out: Features, labelled_set: LabelledSet, fit: MixtureFit, pool: Pool
) -> Pool:
    """Return the findings in the pool, not used if there is no label and the score of ``net`` does not see them."""
    if not pool.used or any(label > 0 for label in labelled_set.labels):
        return pool
    rows = fit.likely_abnormal()
    scores = _scores(net, cache, held_out, [labelled_set.records[row] for row in rows])
    return second_opinion(pool, *scores, fit.abnormal[rows])


def confirm_classes(net: AEFlow, cache: FeatureCache, held_out: Features, learnt: LearntClasses) -> LearntClasses:
    """Return what was learnt; without the classes, which ``net`` then loses, too, if their pool is not confirmed."""
    if learnt.classes is None or learnt.pool is None:
        return learnt
    pool = confirmed(net, cache, held_out, learnt.labelled_set, learnt.classes, learnt.pool)
    if pool is learnt.pool:
        return learnt
    net.classes, net.settings = None, net.settings.model_copy(update={"classifier": "none"})
    return LearntClasses(learnt.labelled_set, None, pool)


def _scores(net: AEFlow, cache: FeatureCache, held_out: Features, records: list[Record]) -> tuple[Floats, Floats]:
    """Return the normals-only scores of held-out normals (n,), and of some images of the pool (m,)."""
    found, _ = cache.features(records)
    weight = UNCHOSEN if net.settings.log_det_weight is None else net.settings.log_det_weight
    [measured] = measures_under(net, {"normal": held_out, "found": found}, [(weight, net.settings.top_share)])
    calibration = fit_calibration(net.settings, measured["normal"], maps={})
    normal, abnormal = (calibration.normals_only(calibration.terms(measured[group])) for group in ("normal", "found"))
    return normal, abnormal
