"""Densities of the flow's latent, in one registry: a new prior is one file here and one line below.

A prior is a module with ``log_prob(u)`` and ``log_prob_normal(u)``: latents (B, C, h, w) to nats at each position,
(B, h, w), the second under what is normal alone; and ``sample(n, shape, generator)``. ``flowgmm`` is learnt with labels
and given to the model ready-made; the others are built by their names.
"""

from __future__ import annotations

from torch import nn

from aeflow.model.priors.flowgmm import FlowGMMPrior
from aeflow.model.priors.standard_normal import StandardNormal

PRIORS: dict[str, type[nn.Module]] = {
    "normal": StandardNormal,
    "flowgmm": FlowGMMPrior,
}
