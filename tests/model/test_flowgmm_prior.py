"""FlowGMM's prior over whole latents: exact densities, a mixture of images, Bayes' rule, sampling as the inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from aeflow.model.class_mixture import ClassMixture
from aeflow.model.flow import Flow
from aeflow.model.priors.flowgmm import FlowGMMPrior, pooled
from aeflow.model.priors.standard_normal import StandardNormal

C, DIRECTIONS, KINDS, SIDE = 6, 3, 2, 4
SHARE = 0.2


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes() -> ClassMixture:
    """A mixture over pooled latents whose whitening is neither square nor orthonormal."""
    whitening = random(DIRECTIONS, C, seed=1)
    means = 2 * random(1 + KINDS, DIRECTIONS, seed=2)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    return ClassMixture(random(C, seed=3), whitening, torch.linalg.pinv(whitening), means, weights)


def prior() -> FlowGMMPrior:
    return FlowGMMPrior.of(classes(), SHARE).double()


def covariance_and_means() -> tuple[np.ndarray, np.ndarray]:
    """Covariance of ``a`` (C, C), and the means (K, C): whitened in the rows' span, standard outside."""
    made = classes()
    w = made.whitening.numpy()
    inside = np.linalg.pinv(w) @ w
    inverse = w.T @ w + np.eye(C) - inside
    means = inside @ made.centre.numpy() + made.prior.means.numpy() @ np.linalg.pinv(w).T
    return np.linalg.inv(inverse), means


def test_pooling_is_a_part_of_a_rotation_of_the_positions() -> None:
    """With the other rows of an orthonormal cosine transform lengths stay, and the first coefficient is ``a``."""
    p, k = np.arange(SIDE * SIDE), np.arange(SIDE * SIDE)[:, None]
    rows = np.cos(np.pi * (p + 0.5) * k / len(p)) * np.where(k == 0, 1, math.sqrt(2)) / math.sqrt(len(p))
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(p)), atol=1e-12)
    u = random(5, C, SIDE, SIDE)
    turned = u.flatten(2).numpy() @ rows.T
    np.testing.assert_allclose(turned[:, :, 0], pooled(u).numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose((turned**2).sum((1, 2)), (u.numpy() ** 2).sum((1, 2, 3)))


def test_density_is_that_of_one_gaussian_in_all_dimensions() -> None:
    """``log p(u | k)`` is scipy's, with the whole covariance over positions and channels built."""
    u = random(7, C, SIDE, SIDE)
    covariance, means = covariance_and_means()
    ones = np.full((SIDE * SIDE, 1), 1 / SIDE)
    constant = ones @ ones.T
    whole = np.kron(np.eye(C), np.eye(SIDE * SIDE) - constant) + np.kron(covariance, constant)
    expected = [multivariate_normal(np.kron(mean, ones[:, 0]), whole).logpdf(u.flatten(1).numpy()) for mean in means]
    np.testing.assert_allclose(prior().given(u).detach().numpy(), np.stack(expected, axis=1), rtol=1e-6)


def test_one_component_at_the_start_is_the_standard_normal() -> None:
    """With no mean moved every component, their mixture and every position are AE-FLOW's own prior."""
    u = random(3, C, SIDE, SIDE).float()
    start, plain = FlowGMMPrior(C, DIRECTIONS, KINDS), StandardNormal().log_prob(u)
    torch.testing.assert_close(start.log_prob(u), plain)
    torch.testing.assert_close(start.log_prob_normal(u), plain)
    torch.testing.assert_close(start.given(u), plain.sum((1, 2))[:, None].expand(-1, 1 + KINDS), rtol=1e-5, atol=1e-3)


def test_joint_sums_to_the_density_and_bayes_gives_the_log_ratios() -> None:
    u, mixture = random(5, C, SIDE, SIDE), prior()
    torch.testing.assert_close(mixture.log_prob(u).sum((1, 2)), mixture.joint(u).logsumexp(1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(mixture.log_prob_normal(u).sum((1, 2)), mixture.given(u)[:, 0], rtol=1e-5, atol=1e-4)
    posterior = mixture.joint(u).softmax(1)
    odds = mixture.log_ratios(u) + math.log(SHARE / (1 - SHARE))
    torch.testing.assert_close((posterior[:, 1:] / posterior[:, :1]).log(), odds, rtol=1e-4, atol=1e-4)


def test_it_equals_the_classes_that_it_started_from() -> None:
    u, made = random(9, C, SIDE, SIDE), classes()
    of_classes = made.log_ratios(made.latent_of(pooled(u).double()))
    torch.testing.assert_close(prior().log_ratios(u), of_classes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", range(1, 1 + KINDS))
def test_a_latent_at_an_abnormal_mean_is_of_that_kind(kind: int) -> None:
    _, means = covariance_and_means()
    at = torch.from_numpy(means) / SIDE
    u = at[:, :, None, None].expand(-1, -1, SIDE, SIDE)
    ratios = prior().log_ratios(u)
    assert int(ratios[kind].argmax()) == kind - 1
    assert ratios[kind].max() > 0
    assert (ratios[0] < 0).all()


def test_only_what_positions_share_says_anything_of_the_class() -> None:
    """Positions changing places, and a change whose mean over positions is zero, leave the ratios as they are."""
    u, mixture = random(4, C, SIDE, SIDE), prior()
    change = random(4, C, SIDE, SIDE, seed=9)
    change = change - change.mean((2, 3), keepdim=True)
    order = torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(0))
    shuffled = u.flatten(2)[:, :, order].view_as(u)
    for other in (u + change, shuffled):
        torch.testing.assert_close(mixture.log_ratios(other), mixture.log_ratios(u), rtol=1e-4, atol=1e-4)


def test_drawn_latents_have_the_components_own_moments() -> None:
    covariance, means = covariance_and_means()
    mixture = FlowGMMPrior.of(classes(), SHARE)
    for kind in range(1 + KINDS):
        u = mixture.sample(20_000, (C, SIDE, SIDE), kind, torch.Generator().manual_seed(kind))
        a = pooled(u).double().numpy()
        scale = math.sqrt(np.trace(covariance))
        np.testing.assert_allclose(a.mean(0), means[kind], atol=0.05 * scale)
        np.testing.assert_allclose(np.cov(a.T), covariance, atol=0.05 * scale**2)
        rest = u - u.mean((2, 3), keepdim=True)
        assert float(rest.square().mean()) == pytest.approx(1 - 1 / SIDE**2, abs=0.01)


def test_draws_through_the_inverse_flow_come_back_as_what_they_were() -> None:
    """Features of a component are of that component: ``flow(flow.inverse(u)) = u``, and Bayes' rule finds it."""
    torch.manual_seed(0)
    flow = Flow(C, steps=3, hidden=8, size=(SIDE, SIDE))
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    mixture = FlowGMMPrior.of(classes(), 0.5)
    with torch.no_grad():
        mixture.mixture.means.mul_(4)  # so far apart that no draw is of another
        for kind in range(1 + KINDS):
            u = mixture.sample(50, (C, SIDE, SIDE), kind, torch.Generator().manual_seed(kind))
            back, _ = flow(flow.inverse(u))
            torch.testing.assert_close(back, u, rtol=1e-3, atol=1e-3)
            assert (mixture.given(back).argmax(1) == kind).all()


def test_the_seed_decides_the_draws() -> None:
    first, second = (prior().float().sample(3, (C, SIDE, SIDE), 1, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)
