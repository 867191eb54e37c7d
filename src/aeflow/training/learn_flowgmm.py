"""FlowGMM's prior in a training: the labelled set to a flow and mixture trained on together, in the network itself.

The flow is trained under the standard normal first, from normals alone. Then it learns on with the mixture, from the
cached features of its stage, in the same region and box as ever, and from those of the same images recaptured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aeflow.config import FLOWGMM, Settings
from aeflow.data.augment import recapture
from aeflow.data.records import Refusals
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.flow import Flow
from aeflow.model.priors.flowgmm import pooled
from aeflow.runtime.progress import bar
from aeflow.training.class_mixture_em import MixtureFit, Pool
from aeflow.training.confirm_pool import confirmed
from aeflow.training.fit_flowgmm import Batch, FlowExamples, fit_flowgmm
from aeflow.training.learn_classes import LabelledSet, LearntClasses, without_refused


def before_flowgmm(settings: Settings) -> Settings:
    """Return the settings of the model that the mixture starts from: that of normals alone."""
    return settings.model_copy(update={"prior": "normal"}) if settings.prior == FLOWGMM else settings


def check_quarters(net: AEFlow) -> None:
    """Raise SettingsError if the latent has no equal quarters, before anything is trained for it."""
    pooled(torch.zeros(1, *net.latent_shape))


def learn_flowgmm(
    net: AEFlow, cache: FeatureCache, labelled_set: LabelledSet, held_out: Features
) -> tuple[LearntClasses, Refusals]:
    """Train the deepest flow of ``net`` on with a mixture, which becomes its prior; return what was learnt, refusals.

    Without anything to learn from, ``net`` stays the normals-only model. The judgements in ``LearntClasses`` are those
    of the start, by models without the image. Raises NumericalError and DataError as ``fit_flowgmm`` does.
    """
    if not any(labelled_set.labels):
        return LearntClasses(labelled_set, None, None), []
    with bar("Labelled images", 2 * len(labelled_set.records)) as advance:
        plain, refusals = cache.features(labelled_set.records, advance)
        again, _ = cache.changed_by(recapture).features(plain.records, advance, view=1)
    labelled_set = without_refused(labelled_set, refusals)
    examples = FlowExamples(
        batches_of(net, plain),
        batches_of(net, again),
        np.array(labelled_set.labels, dtype=np.int64),
        [record.patient for record in labelled_set.records],
    )
    [flow] = net.flows
    assert isinstance(flow, Flow)
    held = batches_of(net, held_out), len(held_out)

    def confirm(start: MixtureFit, pool: Pool) -> Pool:
        return confirmed(net, cache, held_out, labelled_set, start, pool)

    fit, pool = fit_flowgmm(flow, examples, held, labelled_set.kinds, net.settings, confirm)
    if fit is None:
        return LearntClasses(labelled_set, None, pool), refusals
    net.prior = fit.prior
    net.settings = net.settings.model_copy(update={"prior": FLOWGMM})
    return LearntClasses(labelled_set, fit.start, pool), refusals


def batches_of(net: AEFlow, features: Features) -> Batch:
    """Return the function from rows to features (B, C, h, w) as the deepest flow takes them."""
    of_flow = features.only(net.front.stages.index(net.settings.stages[-1]))
    device = next(net.parameters()).device

    def batch(rows: Sequence[int]) -> Tensor:
        parts, _ = of_flow.batch(rows)
        return net.prepared([part.to(device) for part in parts])[-1]

    return batch
