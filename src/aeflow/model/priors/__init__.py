"""Densities of the flow's latent, in one registry: a new prior is one file here and one line below.

A prior is a module with ``log_prob(u)``: latents (B, C, h, w) to nats at each position, (B, h, w); and
``sample(n, shape, generator)``.
"""

from __future__ import annotations

from torch import nn

from aeflow.model.priors.standard_normal import StandardNormal

PRIORS: dict[str, type[nn.Module]] = {
    "normal": StandardNormal,
}
