"""FlowGMM in the flow's own latent: flow and mixture trained end to end by one likelihood of all images.

Izmailov et al. 2020, sections 3.1 and 3.4, from a flow that knows normals. With ``log p(x, k) = log p(u, k) +
log |det|`` an image pays, in nats per dimension,

| image | pays |
|---|---|
| labelled ``y`` | ``-log p(x, y)`` |
| of the pool | ``-log sum_k p(x, k)``, and ``-log p(x | k)`` with the ``k`` that another capture of it is taken for |

1. **The start** is in closed form: the mixture that EM finds over the pooled latents (``class_mixture_em``), with its
   consistency, its judgement by models without the image, and its refusal of pools that show nothing.
2. **The steps** are few and small, for a flow of half a million weights can bend to ten labels as it likes. The
   likelihood of held-out normals decides how many are kept, none if need be.

Without labels, and without a pool that shows abnormal images, there is no mixture, and the flow stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aeflow.config import Settings
from aeflow.model.flow import Flow
from aeflow.model.priors.flowgmm import FlowGMMPrior, pooled
from aeflow.runtime.progress import bar
from aeflow.training.class_mixture_em import Examples, MixtureFit, Pool, fit_class_mixture
from aeflow.training.numerics import check_finite, check_gradients

STEPS = 40
LOOK_EVERY = 10  # steps between two looks at the held-out normals
RATE = 0.1  # of the learning rate that the flow was trained with: it is to stay near where it started
DIRECTIONS = 128  # of the pooled latents that the mixture sees; twice as many rank no better on train folders
HALF = 0.5  # weight of all kinds together if no pool shows how common they are

Batch = Callable[[Sequence[int]], Tensor]  # rows -> features (B, C, h, w), as the flow takes them


@dataclass(frozen=True, slots=True)
class FlowExamples:
    """Images to learn from, as features of the flow's stage."""

    z: Batch
    recaptured: Batch  # the same images as another scanner would have taken them
    label: NDArray[np.int64]  # (n,) 0 normal, 1 and up a kind of abnormality, -1 unlabelled
    patient: Sequence[str]


@dataclass(frozen=True, slots=True)
class FlowGMMFit:
    """A fitted prior; the flow was trained in place."""

    prior: FlowGMMPrior
    start: MixtureFit  # of the start: its judgements are out-of-fold, and weigh the classes against the normals' score
    steps: int  # that were kept


def fit_flowgmm(
    flow: Flow,
    examples: FlowExamples,
    held_out: tuple[Batch, int],
    kinds: Sequence[str],
    settings: Settings,
    confirm: Callable[[MixtureFit, Pool], Pool],
) -> tuple[FlowGMMFit | None, Pool | None]:
    """Train the normals-only ``flow`` on with a mixture as its prior; neither changes if there is nothing to learn.

    ``held_out``: features of normals that are not among the examples, and how many there are. ``confirm``: the second
    opinion on what was found in the pool (``training.confirm_pool``). The seed decides the result. Raises
    NumericalError naming the layer if training leaves the finite numbers, DataError as ``fit_class_mixture`` does.
    """
    n, settings = len(examples.label), settings.model_copy(update={"directions": DIRECTIONS})
    s, recaptured = (_pooled_latents(flow, z, n, settings.batch_size) for z in (examples.z, examples.recaptured))
    start, pool = fit_class_mixture(Examples(s, recaptured, examples.label, examples.patient), kinds, settings)
    if start is not None and pool is not None and pool.used:
        pool = confirm(start, pool)
        start = start if pool.used else None
    if start is None:
        return None, pool
    use_pool = pool is not None and pool.used
    share = settings.abnormal_share or (pool.share if pool is not None and use_pool else HALF)
    prior = FlowGMMPrior.of(start.mixture, share).to(next(flow.parameters()).device)
    steps = _train(flow, prior, examples, held_out, use_pool, settings)
    return FlowGMMFit(prior, start, steps), pool


def joint_loss(given: Tensor, log_weights: Tensor, log_det: Tensor, label: Tensor, taken_for: Tensor) -> Tensor:
    """Return what each image pays in nats, (B,), by the table above.

    ``given`` (B, K): ``log p(u | k)``; ``log_weights`` (K,): ``log pi_k``; ``log_det`` (B,); ``label`` (B,), -1 in the
    pool; ``taken_for`` (B,): the component of the other capture. The weights learn from the pool alone: how many images
    were labelled does not say how common a disease is.
    """

    def of(component: Tensor) -> Tensor:
        return given.gather(1, component[:, None])[:, 0]

    known = label.clamp_min(0)
    labelled = of(known) + log_weights.detach()[known]
    of_pool = (given + log_weights).logsumexp(dim=1) + of(taken_for) + log_det
    return -(log_det + torch.where(label < 0, of_pool, labelled))


class _Both(nn.Module):
    """Flow and prior as one module, for what is done to the weights of both."""

    def __init__(self, flow: Flow, prior: FlowGMMPrior) -> None:
        super().__init__()
        self.flow, self.prior = flow, prior

    def components(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``log p(u | k)`` (B, K) and ``log |det|`` (B,) of features ``z`` (B, C, h, w)."""
        u, log_det = self.flow(z)
        return self.prior.given(u), log_det.sum(dim=(1, 2))


def _train(
    flow: Flow,
    prior: FlowGMMPrior,
    examples: FlowExamples,
    held_out: tuple[Batch, int],
    use_pool: bool,
    settings: Settings,
) -> int:
    """Train flow and prior; leave the weights that held-out normals like best, and return their number of steps."""
    both = _Both(flow, prior)
    parameters = [p for p in both.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, RATE * settings.learning_rate)
    generator = torch.Generator().manual_seed(settings.seed)
    label = torch.from_numpy(examples.label)
    # Each image counts once; ``label_weight`` is for the start alone. What the classes share, nearly all of the latent,
    # learns from abnormal images, too, and the more it does, the less unusual they are to it.
    counts = torch.where(label < 0, float(use_pool), 1.0)

    best, best_loss, kept = _copy(both), _held_out_loss(both, held_out, settings.batch_size), 0
    with bar("FlowGMM", STEPS) as advance:
        for step in range(1, STEPS + 1):
            rows = torch.multinomial(counts, settings.batch_size, replacement=True, generator=generator)
            loss = _step(both, examples, rows, settings, f"FlowGMM, step {step}")
            optimizer.step()
            if step % LOOK_EVERY == 0:
                held = _held_out_loss(both, held_out, settings.batch_size)
                if held < best_loss:
                    best, best_loss, kept = _copy(both), held, step
            advance(note=f"loss {loss:.4f}, held-out normals {best_loss:.4f}")
    both.load_state_dict(best)
    both.eval()
    return kept


def _step(both: _Both, examples: FlowExamples, rows: Tensor, settings: Settings, where: str) -> float:
    """Set the gradients of the mean loss of ``rows`` (B,) in nats per dimension; return it, or raise NumericalError."""
    both.train()
    z, label = examples.z(rows.tolist()), torch.from_numpy(examples.label)[rows]
    of_pool = rows[label < 0].tolist()
    label = label.to(z.device)
    taken_for = label.clamp_min(0)
    log_weights = both.prior.mixture.logits.log_softmax(0)
    if of_pool:
        with torch.no_grad():
            again, _ = both.components(examples.recaptured(of_pool))
            taken_for[label < 0] = (again + log_weights).argmax(dim=1)
    given, log_det = both.components(z)
    loss = joint_loss(given, log_weights, log_det, label, taken_for).mean() / z[0].numel()
    check_finite(both, loss, lambda: both.components(z), where)
    both.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    check_gradients(both, nn.utils.clip_grad_norm_(both.parameters(), settings.max_grad_norm), where)
    return float(loss.detach())


@torch.no_grad()
def _pooled_latents(flow: Flow, z: Batch, n: int, size: int) -> NDArray[np.float64]:
    """Return the pooled latents (n, 4 C) of all images."""
    flow.eval()
    found = [pooled(flow(z(rows))[0]) for rows in _batches(n, size)]
    return torch.cat(found).double().cpu().numpy()


@torch.no_grad()
def _held_out_loss(both: _Both, held_out: tuple[Batch, int], size: int) -> float:
    """Return the mean ``-log p(x | normal)`` of held-out normals, in nats per dimension."""
    both.eval()
    z, n = held_out
    total = 0.0
    for rows in _batches(n, size):
        given, log_det = both.components(x := z(rows))
        total -= float((given[:, 0] + log_det).sum()) / x[0].numel()
    return total / n


def _batches(n: int, size: int) -> list[range]:
    return [range(start, min(start + size, n)) for start in range(0, n, size)]


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
