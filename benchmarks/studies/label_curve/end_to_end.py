"""FlowGMM as its authors meant it: the mixture in the flow's own latent, trained end to end, on the same draws."""

from __future__ import annotations

import copy

from aeflow._types import Floats
from aeflow.calibration.calibration import fit_calibration
from aeflow.calibration.posterior import fit_posterior
from aeflow.data.augment import recapture
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.training.class_mixture_em import MixtureFit, Pool
from aeflow.training.confirm_pool import second_opinion
from aeflow.training.fit_flowgmm import FlowExamples, fit_flowgmm
from aeflow.training.learn_flowgmm import batches_of
from benchmarks.inputs import features_of, measures_of
from benchmarks.studies.label_curve.world import Base, Rows, World, labels_for

NAME = "FlowGMM prior, end to end"


def learn_end_to_end(world: World, base: Base, labelled: Rows, pool: Rows) -> Floats:
    """Train flow and mixture on from the normals-only model; return the test scores, higher for more abnormal.

    The score is composed as `aeflow train --prior flowgmm` does: the likelihood under the normal component counts
    beside the other terms, and the evidence of the classes with them.
    """
    net = copy.deepcopy(base.net)
    cache = FeatureCache(net.front, net.settings.image_size, change=recapture)

    def features(rows: Rows, view: int = 0) -> Features:
        return features_of(cache, [world.records[row] for row in rows], view)

    rows, label, kinds = labels_for(world, base, labelled, pool)
    held = features(base.held)
    patients = [world.records[row].patient for row in rows]
    examples = FlowExamples(batches_of(net, features(rows)), batches_of(net, features(rows, 1)), label, patients)

    def confirm(start: MixtureFit, pool: Pool) -> Pool:
        if len(labelled):
            return pool
        among = start.likely_abnormal()
        return second_opinion(pool, *base.beside_held_out(rows[among]), start.abnormal[among])

    flow = net.flows[-1]
    fit, found = fit_flowgmm(flow, examples, (batches_of(net, held), len(held)), kinds, net.settings, confirm)  # type: ignore[arg-type]
    if fit is None:
        return base.score(world.test)
    net.prior = fit.prior
    measures, ratios = measures_of(net, held)
    beside = (name for name in world.plan.learnt.chosen_terms if name != "flow")
    calibration = fit_calibration(net.settings.model_copy(update={"terms": ("flow", *beside)}), measures, {})
    chosen = fit.start.likely_abnormal()
    share = found.share if found is not None and found.used else 0.5

    def normals_only(of: dict[str, Floats]) -> Floats:
        return calibration.normals_only(calibration.terms(of))

    of_chosen = normals_only(measures_of(net, features(rows[chosen]))[0])
    abnormal = of_chosen, fit.start.judged[chosen], fit.start.abnormal[chosen]
    posterior = fit_posterior(kinds, (normals_only(measures), ratios), abnormal, share)
    measures, ratios = measures_of(net, features(world.test))
    return posterior.value(normals_only(measures), posterior.term(ratios))
