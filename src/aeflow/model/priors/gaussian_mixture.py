"""Gaussian mixture prior of FlowGMM, with a component for each class."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn

from aeflow.model.priors.standard_normal import LOG_2PI


class GaussianMixture(nn.Module):
    """``p(u) = sum_k pi_k N(u; m_k, diag(exp(2 t_k)))``: FlowGMM's prior (Izmailov et al. 2020, section 3).

    ``means`` (K, C), ``log_weights`` (K,) up to a constant, ``log_scales`` (K, C) or (K, 1). All are fixed but those
    named in ``learn``. Everything is closed form and diagonal: no covariance matrix is ever built.
    """

    def __init__(
        self,
        means: Tensor,
        log_weights: Tensor | None = None,
        log_scales: Tensor | None = None,
        learn: Collection[Literal["means", "weights", "scales"]] = (),
    ) -> None:
        super().__init__()
        weights = means.new_zeros(len(means)) if log_weights is None else log_weights
        scales = means.new_zeros(len(means), 1) if log_scales is None else log_scales
        self.means = nn.Parameter(means, "means" in learn)
        self.logits = nn.Parameter(weights, "weights" in learn)
        self.log_scales = nn.Parameter(scales, "scales" in learn)

    def joint(self, u: Tensor) -> Tensor:
        """Return ``log p(u, k)`` in nats of ``u`` (B, C, ...) for every component, (B, K, ...)."""
        return self.given(u) + _along(self.logits.log_softmax(0), u)

    def log_prob(self, u: Tensor) -> Tensor:
        """Return ``log p(u)`` in nats of ``u`` (B, C, ...), (B, ...)."""
        return self.joint(u).logsumexp(dim=1)

    def log_prob_given(self, u: Tensor, y: Tensor | int) -> Tensor:
        """Return ``log p(u | y)`` in nats of ``u`` (B, C, ...) under component ``y``, one for all or (B,); (B, ...)."""
        given = self.given(u)
        if isinstance(y, int):
            return given[:, y]
        return given[torch.arange(len(u), device=u.device), y]

    def posterior(self, u: Tensor) -> Tensor:
        """Return ``p(k | u)`` of ``u`` (B, C, ...), (B, K, ...)."""
        return self.joint(u).softmax(dim=1)

    def sample(self, n: int, y: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` latents (n, C) of component ``y``, or of components drawn by their weights."""
        chosen = (
            torch.full((n,), y)
            if y is not None
            else torch.multinomial(self.logits.detach().softmax(0).cpu(), n, replacement=True, generator=generator)
        )
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means.detach()[chosen] + self.log_scales.detach().exp()[chosen] * noise.to(self.means.device)

    def given(self, u: Tensor) -> Tensor:
        """Return ``log N(u; m_k, exp(2 t_k))``, (B, K, ...), by expanded squares: no (B, K, C, ...) tensor."""
        precision = (-2 * self.log_scales).exp().expand_as(self.means)
        flat = u.flatten(2) if u.dim() > 2 else u[:, :, None]
        distance = (
            torch.einsum("kc,bcp->bkp", precision, flat.square())
            - 2 * torch.einsum("kc,bcp->bkp", precision * self.means, flat)
            + (precision * self.means.square()).sum(1)[:, None]
        )
        log_volume = self.log_scales.expand_as(self.means).sum(1)
        log_prob = -0.5 * (distance + u.shape[1] * LOG_2PI) - log_volume[:, None]
        return log_prob.reshape(u.shape[0], len(self.means), *u.shape[2:])


def _along(values: Tensor, u: Tensor) -> Tensor:
    """Return ``values`` (K,) in a shape to be added to (B, K, ...)."""
    return values.view(1, -1, *(1,) * (u.dim() - 2))
