"""FlowGMM as its authors meant it: the mixture in the flow's own latent, trained end to end, on the same draws."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from aeflow._types import Floats
from aeflow.calibration.posterior import fit_posterior
from aeflow.config import UNCHOSEN
from aeflow.data.augment import recapture
from aeflow.data.splits import evenly
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.terms.top_mean import top_mean
from aeflow.training.calibrate import MAX_WEIGHED
from aeflow.training.fit_flowgmm import Batch, FlowExamples, fit_flowgmm
from benchmarks.inputs import features_of
from benchmarks.studies.label_curve.world import SETTINGS, Base, Rows, World, labels_for

NAME = "FlowGMM prior, end to end"


def learn_end_to_end(world: World, base: Base, labelled: Rows, pool: Rows) -> Floats:
    """Train flow and mixture on from the normals-only model; return the test scores, higher for more abnormal.

    The score is composed as that of the classifier on pooled features: the likelihood under the normal component, which
    finds kinds that nobody labelled, and the evidence of the classes.
    """
    net = copy.deepcopy(base.net)
    flow = net.flows[-1]
    cache = FeatureCache(net.encoder, net.settings.image_size, change=recapture)

    def features(rows: Rows, view: int = 0) -> Features:
        return features_of(cache, [world.records[row] for row in rows], view)

    rows, label, kinds = labels_for(world, base, labelled, pool)
    held = features(base.held)
    patients = [world.records[row].patient for row in rows]
    examples = FlowExamples(batch_of(net, features(rows)), batch_of(net, features(rows, 1)), label, patients)
    fit, found = fit_flowgmm(flow, examples, (batch_of(net, held), len(held)), kinds, SETTINGS)  # type: ignore[arg-type]
    if fit is None:
        return base.score(world.test)
    prior = fit.prior

    def ratios(of: Features) -> Floats:
        return measured(net, of, lambda u, _: prior.log_ratios(u))

    def normals_only(of: Features) -> Floats:
        return flow_term(net, of, prior.log_prob_normal)

    test = features(world.test)
    chosen = np.array(evenly(np.flatnonzero(fit.start.abnormal > 0.5).tolist(), MAX_WEIGHED), dtype=int)
    share = found.share if found is not None and found.used else 0.5
    abnormal = normals_only(features(rows[chosen])), fit.start.judged[chosen], fit.start.abnormal[chosen]
    posterior = fit_posterior(kinds, (normals_only(held), ratios(held)), abnormal, share)
    return posterior.value(normals_only(test), posterior.term(ratios(test)))


def batch_of(net: AEFlow, features: Features) -> Batch:
    """Return the function from rows to features (B, C, h, w) as the deepest flow takes them."""
    return lambda rows: net.prepared(features.batch(rows)[0])[-1]


def flow_term(net: AEFlow, features: Features, log_prob: Callable[[Tensor], Tensor]) -> Floats:
    """Return the flow term (n,) of the net's settings under a density of latents."""
    chosen, share = net.settings.log_det_weight, net.settings.top_share
    weight = UNCHOSEN if chosen is None else chosen
    return measured(net, features, lambda u, ld: top_mean(-(log_prob(u) + weight * ld), share) / u.shape[1])


@torch.no_grad()
def measured(net: AEFlow, features: Features, of: Callable[[Tensor, Tensor], Tensor]) -> Floats:
    """Return what is measured on the latents and log-determinants of all images, one row each."""
    size, z = SETTINGS.batch_size, batch_of(net, features)
    starts = range(0, len(features), size)
    parts = [of(*net.flows[-1](z(range(start, min(start + size, len(features)))))) for start in starts]
    return torch.cat(parts).double().numpy()
