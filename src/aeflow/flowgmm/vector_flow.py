"""Flow over vectors with a Gaussian mixture as its latent density.

| symbol | shape | meaning |
|---|---|---|
| v | (n, d) | whitened points |
| u | (n, d) | latent, ``u = flow(v)`` |
| joint | (n, K) | ``log p(v, k)`` of every Gaussian k |
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aeflow.model.priors.gaussian_mixture import GaussianMixture


class Coupling(nn.Module):
    """``u_a = v_a, u_b = v_b * exp(s) + t`` with ``(s, t) = mlp(v_a)``, ``|s| < 1``; starts as the identity.

    Real NVP (Dinh et al. 2017), section 3.2; ``v`` (n, d), log-determinant (n,).
    """

    def __init__(self, kept: Tensor, changed: Tensor, hidden: int) -> None:
        super().__init__()
        self.kept, self.changed = kept, changed
        last = nn.Linear(hidden, 2 * len(changed))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(len(kept), hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last)

    def scale_and_shift(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``t`` (n, changed) from the kept half of ``v``."""
        r, t = self.mlp(v[:, self.kept]).chunk(2, dim=1)
        return torch.tanh(r), t

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``u`` (n, d) and the log-determinant (n,)."""
        s, t = self.scale_and_shift(v)
        return v.index_copy(1, self.changed, v[:, self.changed] * s.exp() + t), s.sum(dim=1)

    def inverse(self, u: Tensor) -> Tensor:
        """Return ``v`` (n, d) from ``u``."""
        s, t = self.scale_and_shift(u)
        return u.index_copy(1, self.changed, (u[:, self.changed] - t) * (-s).exp())


class FlowMixture(nn.Module):
    """``log p(v, k) = log pi_k + log N(u; m_k, I) + log |det du/dv|`` with ``u = flow(v)``; ``v`` (n, d) -> (n, K).

    The flow is a sequence of coupling steps over random halves; without steps it is the identity.
    """

    def __init__(
        self, means: NDArray[np.float64], log_weights: NDArray[np.float64], steps: int, hidden: int, seed: int
    ) -> None:
        super().__init__()
        self.prior = GaussianMixture(torch.from_numpy(means), torch.from_numpy(log_weights), learn=("means", "weights"))
        with torch.random.fork_rng(devices=[]):  # leaves the caller's generator as it was
            torch.manual_seed(seed)
            halves: list[tuple[Tensor, Tensor]] = []
            while len(halves) < steps:
                first, second = torch.randperm(means.shape[1]).tensor_split(2)
                halves += [(first, second), (second, first)]
            self.steps = nn.ModuleList(Coupling(*half, hidden) for half in halves[:steps]).double()

    def forward(self, v: Tensor) -> Tensor:
        """Return ``log p(v, k)`` (n, K) of points ``v`` (n, d)."""
        log_det = v.new_zeros(len(v), 1)
        for step in self.steps:
            v, part = step(v)
            log_det = log_det + part[:, None]
        return self.prior.joint(v) + log_det

    def inverse(self, u: Tensor) -> Tensor:
        """Return the points ``v`` (n, d) whose latents are ``u``."""
        for step in reversed(self.steps):
            u = step.inverse(u)  # type: ignore[operator]
        return u
