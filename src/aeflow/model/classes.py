"""Which class an image belongs to: FlowGMM on the pooled features, its flow an affine map.

``u = whitening (s - centre)`` with ``s = pool(features)``, and over ``u`` a Gaussian mixture: component 0 is normal,
each other one a kind of abnormality. The Jacobian is the same for all components and cancels in what follows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aeflow.model.pooled import pool
from aeflow.model.prior import GaussianMixture


class ClassMixture(nn.Module):
    """``p(s, k) ~ pi_k N(whitening (s - centre); m_k, I)``; ``centre`` (D,), ``whitening`` (d, D), ``means`` (K, d).

    The weights ``pi_k`` are those among the abnormal kinds; how common abnormal images are is not the model's to know
    (``Calibration.abnormal_share``).
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
        """A mixture to load weights into."""
        zeros = torch.zeros
        return cls(
            zeros(width),
            zeros(directions, width),
            zeros(width, directions),
            zeros(components, directions),
            zeros(components),
        )

    def latent(self, features: list[Tensor]) -> Tensor:
        """``u`` (B, d) of features (B, C, h, w) of the class stages."""
        return self.latent_of(pool(features))

    def latent_of(self, s: Tensor) -> Tensor:
        """``u`` (B, d) of pooled vectors ``s`` (B, D)."""
        return (s - self.centre) @ self.whitening.T

    def log_ratios(self, u: Tensor) -> Tensor:
        """``log w_k p(u | k) - log p(u | normal)`` of every abnormal kind, (B, K - 1), in nats; ``w`` sums to one."""
        m = self.prior.means
        linear = u @ (m[1:] - m[0]).T - 0.5 * (m[1:].square().sum(1) - m[0].square().sum())
        return linear + self.prior.logits[1:].log_softmax(0)

    def evidence(self, u: Tensor) -> Tensor:
        """``log p(u | abnormal) - log p(u | normal)`` in nats, (B,); higher is more abnormal."""
        return self.log_ratios(u).logsumexp(dim=1)

    def moved_to_normal(self, s: Tensor) -> Tensor:
        """``s`` (B, D) moved within the latent, along the way between the means, to an average normal image's evidence.

        Images that already have no more evidence than that stay as they are.
        """
        u, m = self.latent_of(s), self.prior.means
        kind = self.log_ratios(u).argmax(dim=1)
        way = (m[1:] - m[0])[kind]
        along = ((u - m[0]) * way).sum(1) / way.square().sum(1)
        return s - (along.clamp_min(0)[:, None] * way) @ self.back.T
