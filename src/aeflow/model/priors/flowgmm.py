"""FlowGMM's prior for a flow over feature maps: a Gaussian mixture over images, exact in all dimensions of the latent.

The class belongs to the image, not to a position, so the mixture lies over what the positions of each quarter of an
image have in common. With ``P`` positions in a quarter, ``a = sum_p u_p / sqrt(P)`` of each, (B, 4 C), is the constant
part of an orthonormal transform of its positions (a cosine transform's first coefficient), and ``Q`` (4 C, d) are
orthonormal directions of it::

    p(u | k) = N(v; m_k, I) |det L| N(rest; 0, I),    v = L Q^T a

where ``rest`` is all that is orthogonal to ``Q^T a``: ``|rest|^2 = |u|^2 - |Q^T a|^2``. The transform is a rotation and
``L`` lower triangular, so every density is exact and no covariance is larger than d x d. In all C h w dimensions the
posterior of ten thousand terms would saturate; here it depends on ``v`` alone. With ``L = I`` and means of zero, every
component is the standard normal of ``StandardNormal``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aeflow.errors import SettingsError
from aeflow.model.priors.gaussian_mixture import GaussianMixture
from aeflow.model.priors.standard_normal import LOG_2PI

if TYPE_CHECKING:  # it is made of a mixture of this room
    from aeflow.model.class_mixture import ClassMixture


class FlowGMMPrior(nn.Module):
    """``p(u) = sum_k pi_k p(u | k)`` over images, by the equations above: FlowGMM (Izmailov et al. 2020), section 3.

    Component 0 is normal, each other one a kind of abnormality. All but ``Q`` are parameters.
    """

    basis: Tensor

    def __init__(self, width: int, directions: int, kinds: int) -> None:
        super().__init__()
        self.register_buffer("basis", torch.eye(width, directions))  # Q; ``width`` is that of ``a``, 4 C
        self.root = nn.Parameter(torch.eye(directions))  # L; only its lower triangle counts, the logarithm its diagonal
        with torch.no_grad():
            self.root.fill_diagonal_(0)
        self.mixture = GaussianMixture(torch.zeros(1 + kinds, directions), learn=("means", "weights"))

    @classmethod
    def of(cls, classes: ClassMixture, abnormal_share: float) -> FlowGMMPrior:
        """Return the prior that equals a mixture ``classes`` over the pooled latents ``a``.

        ``whitening = L Q^T`` by the QR decomposition; ``abnormal_share`` is the weight of all kinds together.
        """
        kinds = len(classes.prior.means) - 1
        prior = cls(classes.whitening.shape[1], len(classes.whitening), kinds)
        q, r = torch.linalg.qr(classes.whitening.double().T)
        sign = r.diagonal().sign()  # a root's diagonal is positive; QR's may not be
        root = (r * sign[:, None]).T
        with torch.no_grad():
            prior.basis.copy_(q * sign)
            prior.root.copy_(root.tril(-1) + root.diagonal().log().diag())
            # ``classes`` measures from its centre, the prior from 0, where the flow puts what is normal.
            turned = classes.prior.means.double() + classes.whitening.double() @ classes.centre.double()
            prior.mixture.means.copy_(turned)
            among = classes.prior.logits[1:].log_softmax(0) + math.log(abnormal_share)
            prior.mixture.logits.copy_(torch.cat((among.new_tensor([math.log1p(-abnormal_share)]), among)))
        return prior

    @property
    def sizes(self) -> dict[str, int]:
        """The arguments that build a prior of this form."""
        width, directions = self.basis.shape
        return {"width": width, "directions": directions, "kinds": len(self.mixture.means) - 1}

    def given(self, u: Tensor) -> Tensor:
        """Return ``log p(u | k)`` in nats of whole latents ``u`` (B, C, h, w) for every component, (B, K)."""
        whole, at, v = self._parts(u)
        normal = self.mixture.given(v) + self._log_diagonal().sum()
        return normal + (whole - at)[:, None]

    def joint(self, u: Tensor) -> Tensor:
        """Return ``log p(u, k)`` in nats of whole latents ``u`` (B, C, h, w) for every component, (B, K)."""
        return self.given(u) + self.mixture.logits.log_softmax(0)

    def log_prob(self, u: Tensor) -> Tensor:
        """Return ``log p(u)`` in nats of ``u`` (B, C, h, w) at each position, (B, h, w); an image's is their sum.

        What the mixture adds to the standard normal belongs to the whole image, and is spread over its positions.
        """
        return self._spread(u, self.joint(u).logsumexp(dim=1))

    def log_prob_normal(self, u: Tensor) -> Tensor:
        """Return ``log p(u | normal)`` as ``log_prob`` does, (B, h, w): what the score of unseen kinds counts."""
        return self._spread(u, self.given(u)[:, 0])

    def log_ratios(self, u: Tensor) -> Tensor:
        """Return ``log w_k p(u | k) - log p(u | normal)`` of every abnormal kind, (B, K - 1), in nats.

        The weights ``w`` sum to one, as in ``ClassMixture``; the rest of the latent cancels.
        """
        given = self.mixture.given(self._parts(u)[2])
        return given[:, 1:] - given[:, :1] + self.mixture.logits[1:].log_softmax(0)

    @torch.no_grad()
    def sample(
        self, n: int, shape: tuple[int, int, int], kind: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw ``n`` latents of ``shape`` (C, h, w): of component ``kind``, or of components drawn by their weights."""
        u = torch.randn(n, *shape, generator=generator).to(self.basis.device)
        v = self.mixture.sample(n, kind, generator)
        at = torch.linalg.solve_triangular(self._triangle(), v.T, upper=False).T
        return u + _constant((at - pooled(u) @ self.basis) @ self.basis.T, shape)

    def _parts(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``log N(u; 0, I)`` (B,), ``log N(Q^T a; 0, I)`` (B,), and ``v`` (B, d)."""
        a = pooled(u) @ self.basis
        return _log_normal(u.flatten(1)), _log_normal(a), a @ self._triangle().T

    def _triangle(self) -> Tensor:
        """Return ``L`` (d, d), of positive diagonal."""
        return self.root.tril(-1) + self._log_diagonal().exp()[:, None] * self._eye()

    def _log_diagonal(self) -> Tensor:
        """Return the logarithm of the diagonal of ``L`` (d,), by products: OpenVINO knows no ``diagonal``."""
        return (self.root * self._eye()).sum(dim=1)

    def _eye(self) -> Tensor:
        return torch.eye(len(self.root), dtype=self.root.dtype, device=self.root.device)

    @staticmethod
    def _spread(u: Tensor, log_prob: Tensor) -> Tensor:
        """Return the standard normal's ``log p(u)`` (B, h, w), and the rest of ``log_prob`` (B,) in equal parts."""
        at_each = -0.5 * (u.square().sum(dim=1) + u.shape[1] * LOG_2PI)
        return at_each + ((log_prob - at_each.sum(dim=(1, 2))) / at_each[0].numel())[:, None, None]


def pooled(u: Tensor) -> Tensor:
    """Return ``a = sum_p u_p / sqrt(P)`` of each quarter, (B, 4 C), of latents ``u`` (B, C, h, w).

    Under the standard normal each number of ``a`` is standard normal. Raises SettingsError if a side is odd.
    """
    n, c, h, w = u.shape
    if h % 2 or w % 2:
        found = f"a latent of {h} x {w} positions has no equal quarters, over which prior flowgmm lies"
        raise SettingsError("image_size", found, "give an even multiple of the stride of the deepest of --set stages")
    in_quarters = u.reshape(n, c, 2, h // 2, 2, w // 2)
    return in_quarters.sum(dim=(3, 5)).flatten(1) / math.sqrt(h * w / 4)


def _constant(a: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return latents (B, C, h, w) of ``shape`` that are constant in each quarter and have ``a`` (B, 4 C)."""
    c, h, w = shape
    quarters = a.view(len(a), c, 2, 2) / math.sqrt(h * w / 4)
    return quarters.repeat_interleave(h // 2, dim=2).repeat_interleave(w // 2, dim=3)


def _log_normal(x: Tensor) -> Tensor:
    """Return ``log N(x; 0, I)`` (B,) of ``x`` (B, D)."""
    return -0.5 * (x.square().sum(dim=1) + x.shape[1] * LOG_2PI)
