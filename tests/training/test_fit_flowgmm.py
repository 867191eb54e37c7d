"""Flow and mixture trained end to end: what each image pays, when nothing may change, and that shifted images rank."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from aeflow.config import Settings, make_settings
from aeflow.errors import NumericalError
from aeflow.metrics.image import auroc
from aeflow.model.flow import Flow
from aeflow.model.priors.standard_normal import StandardNormal
from aeflow.training import fit_flowgmm as module
from aeflow.training.class_mixture_em import Pool
from aeflow.training.fit_flowgmm import FlowExamples, FlowGMMFit, fit_flowgmm, joint_loss

C, SIDE, KNOWN, HELD = 6, 4, 60, 30
SETTINGS = make_settings(classifier="mixture", batch_size=16)


def features(n: int, seed: int, shift: float = 0.0) -> Tensor:
    """Feature maps (n, C, h, w) of correlated channels; abnormal ones are shifted by a little at each position."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, C, SIDE, SIDE, generator=generator) + torch.randn(n, C, 1, 1, generator=generator)
    z[:, 1] += z[:, 0]
    z[:, 2] += shift
    return z


def flow() -> Flow:
    torch.manual_seed(0)
    made = Flow(C, steps=2, hidden=8, size=(SIDE, SIDE))
    made.initialise(features(KNOWN, 0))
    return made


def batch(z: Tensor) -> tuple[module.Batch, int]:
    def of(rows: Sequence[int]) -> Tensor:
        return z[list(rows)]

    return of, len(z)


def examples(labelled: int = 0, pool: int = 0, abnormal_in_pool: int = 0) -> FlowExamples:
    parts = [features(KNOWN, 0), features(labelled, 1, 4.0), features(pool - abnormal_in_pool, 2)]
    z = torch.cat([*parts, features(abnormal_in_pool, 3, 4.0)])
    moved = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(4))
    label = np.array([0] * KNOWN + [1] * labelled + [-1] * pool)
    return FlowExamples(batch(z)[0], batch(moved)[0], label, [f"p{i}" for i in range(len(z))])


def fit(of: Flow, given: FlowExamples, settings: Settings = SETTINGS) -> tuple[FlowGMMFit | None, Pool | None]:
    return fit_flowgmm(of, given, batch(features(HELD, 5)), ["abnormal"], settings, lambda _, pool: pool)


def test_without_labels_and_pool_the_flow_is_the_normals_only_flow() -> None:
    trained = flow()
    before = copy.deepcopy(trained.state_dict())
    assert fit(trained, examples()) == (None, None)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_a_pool_that_shows_nothing_changes_nothing() -> None:
    trained = flow()
    before = copy.deepcopy(trained.state_dict())
    learnt, pool = fit(trained, examples(pool=40))
    assert learnt is None
    assert pool is not None
    assert not pool.used
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_what_each_image_pays() -> None:
    """A labelled one ``-log p(x, y)``; one of the pool ``-log p(x)`` and that of its other capture's class."""
    given = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
    logits = weights.log().requires_grad_()
    log_weights, log_det = logits.log_softmax(0), torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    paid = joint_loss(given, log_weights, log_det, torch.tensor([0, 1, -1]), torch.tensor([0, 1, 1]))
    g, d = given.detach().exp(), log_det.exp()
    torch.testing.assert_close(paid[0].exp(), 1 / (weights[0] * g[0, 0] * d[0]))
    torch.testing.assert_close(paid[1].exp(), 1 / (weights[1] * g[1, 1] * d[1]))
    torch.testing.assert_close(paid[2].exp(), 1 / ((weights @ g[2]) * d[2] * g[2, 1] * d[2]))
    paid[:2].sum().backward(retain_graph=True)
    assert logits.grad is None or not logits.grad.any()  # labels do not say how common a disease is
    paid[2].backward()
    assert logits.grad is not None
    assert logits.grad.any()


@pytest.mark.parametrize("counts", [{"labelled": 10}, {"pool": 60, "abnormal_in_pool": 30}])
def test_abnormal_images_that_were_not_seen_rank_above_normal_ones(counts: dict[str, int]) -> None:
    trained = flow()
    learnt, _ = fit(trained, examples(**counts))
    assert learnt is not None
    with torch.no_grad():
        ratios = [learnt.prior.log_ratios(trained(features(100, 6, shift))[0])[:, 0] for shift in (0.0, 4.0)]
    assert auroc(torch.cat(ratios).tolist(), [0] * 100 + [1] * 100) > 0.95


def test_held_out_normals_are_at_least_as_likely_as_at_the_start() -> None:
    """The best look is kept, the start itself among them; and the start is no worse than a standard normal here."""
    trained = flow()
    held, n = batch(features(HELD, 5))
    with torch.no_grad():
        u, log_det = trained(held(range(n)))
    plain = -float((StandardNormal().log_prob(u) + log_det).mean()) / C
    learnt, _ = fit(trained, examples(labelled=10))
    assert learnt is not None
    assert 0 < learnt.steps <= module.STEPS
    assert module._held_out_loss(module._Both(trained, learnt.prior), (held, n), 8) < plain


def test_the_seed_decides_the_result() -> None:
    flows = [flow(), flow(), flow()]
    fits = [
        fit(of, examples(labelled=5), SETTINGS.model_copy(update={"seed": seed}))[0]
        for of, seed in zip(flows, (3, 3, 4), strict=True)
    ]
    states = [
        torch.cat([v.flatten().float() for m in (of, found.prior) for v in m.state_dict().values()])
        for of, found in zip(flows, fits, strict=True)
        if found is not None
    ]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_features_that_are_not_finite_are_an_error_that_names_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, given = flow(), examples(labelled=5)
    real = module.fit_class_mixture

    def then_break(*arguments: object) -> object:
        found = real(*arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            trained.steps[1].norm.bias[0, 0] = torch.nan  # type: ignore[union-attr, index]
        return found

    monkeypatch.setattr(module, "fit_class_mixture", then_break)
    with pytest.raises(NumericalError, match=r"FlowGMM, step 1: weights of flow\.steps\.1\.norm\.bias"):
        fit(trained, given)
