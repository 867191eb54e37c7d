"""Classifier of images: FlowGMM on the pooled features, with an affine map as its flow.

``u = whitening (s - centre)`` with ``s = pool(features)``, and over ``u`` a Gaussian mixture: component 0 is normal,
each other one a kind of abnormality. The Jacobian is the same for all components and cancels in what follows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aeflow.model.priors.gaussian_mixture import GaussianMixture

ROUNDS = 8  # passes over the kinds: removing one may bring back a little of another
TINY = 1e-12  # a kind of which nothing was learnt has the normal mean


class ClassMixture(nn.Module):
    """``p(s, k) ~ pi_k N(whitening (s - centre); m_k, I)``; ``centre`` (D,), ``whitening`` (d, D), ``means`` (K, d).

    The weights ``pi_k`` are those among the abnormal kinds; how common abnormal images are is not part of the model
    (``Posterior.abnormal_share``).
    """

    centre: Tensor
    whitening: Tensor
    back: Tensor

    def __init__(self, centre: Tensor, whitening: Tensor, back: Tensor, means: Tensor, log_weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("whitening", whitening)
        self.register_buffer("back", back)  # (D, d), right inverse: whitening @ back = I
        self.prior = GaussianMixture(means, log_weights)

    @classmethod
    def empty(cls, width: int, directions: int, components: int) -> ClassMixture:
        """Build a mixture of zeros, to load weights into."""
        zeros = torch.zeros
        return cls(
            zeros(width),
            zeros(directions, width),
            zeros(width, directions),
            zeros(components, directions),
            zeros(components),
        )

    def latent_of(self, s: Tensor) -> Tensor:
        """Return ``u`` (B, d) of pooled vectors ``s`` (B, D)."""
        return (s - self.centre) @ self.whitening.T

    def log_ratios(self, u: Tensor) -> Tensor:
        """Return ``log w_k p(u | k) - log p(u | normal)`` of every abnormal kind, (B, K - 1), in nats.

        The weights ``w`` sum to one.
        """
        m = self.prior.means
        linear = u @ (m[1:] - m[0]).T - 0.5 * (m[1:].square().sum(1) - m[0].square().sum())
        return linear + self.prior.logits[1:].log_softmax(0)

    def evidence(self, u: Tensor) -> Tensor:
        """Return ``log p(u | abnormal) - log p(u | normal)`` in nats, (B,); higher is more abnormal."""
        return self.log_ratios(u).logsumexp(dim=1)

    def moved_to_normal(self, s: Tensor) -> Tensor:
        """Move ``s`` (B, D) within the latent to a normal image's evidence, against the directions to the kinds' means.

        Then no image has more of any kind than the mean normal image. Images whose evidence is not above that of the
        mean normal image stay as they are.
        """
        u, m = self.latent_of(s), self.prior.means
        moved = u
        for direction in (m[1:] - m[0]).repeat(ROUNDS, 1):
            along = ((moved - m[0]) @ direction) / direction.square().sum().clamp_min(TINY)
            moved = moved - along.clamp_min(0)[:, None] * direction
        above = self.evidence(u) > self.evidence(m[:1])
        return torch.where(above[:, None], s + (moved - u) @ self.back.T, s)
