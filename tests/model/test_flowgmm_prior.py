"""FlowGMM's prior over whole latents: exact densities, a mixture of images, Bayes' rule, sampling as the inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from aeflow.errors import SettingsError
from aeflow.model.class_mixture import ClassMixture
from aeflow.model.flow import Flow
from aeflow.model.priors.flowgmm import FlowGMMPrior, pooled
from aeflow.model.priors.standard_normal import StandardNormal

C, DIRECTIONS, KINDS, SIDE = 2, 3, 2, 4
WIDTH, HALF = 4 * C, SIDE // 2
SHARE = 0.2


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes() -> ClassMixture:
    """A mixture over pooled latents whose whitening is neither square nor orthonormal."""
    whitening = random(DIRECTIONS, WIDTH, seed=1)
    means = 2 * random(1 + KINDS, DIRECTIONS, seed=2)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    return ClassMixture(random(WIDTH, seed=3), whitening, torch.linalg.pinv(whitening), means, weights)


def prior() -> FlowGMMPrior:
    return FlowGMMPrior.of(classes(), SHARE).double()


def covariance_and_means() -> tuple[np.ndarray, np.ndarray]:
    """Covariance of ``a`` (C, C), and the means (K, C): whitened in the rows' span, standard outside."""
    made = classes()
    w = made.whitening.numpy()
    inside = np.linalg.pinv(w) @ w
    inverse = w.T @ w + np.eye(WIDTH) - inside
    means = inside @ made.centre.numpy() + made.prior.means.numpy() @ np.linalg.pinv(w).T
    return np.linalg.inv(inverse), means


def constant_rows() -> np.ndarray:
    """``E`` (C h w, 4 C) of orthonormal columns, with ``a = E^T u``: written position by position."""
    rows = np.zeros((C, SIDE, SIDE, C, 2, 2))
    for c, y, x in np.ndindex(C, SIDE, SIDE):
        rows[c, y, x, c, y // HALF, x // HALF] = 1 / HALF
    return rows.reshape(C * SIDE * SIDE, WIDTH)


def test_pooling_is_a_part_of_a_rotation() -> None:
    """Its directions are orthonormal, so with any orthonormal complement lengths, and so densities, stay."""
    u, e = random(5, C, SIDE, SIDE), constant_rows()
    np.testing.assert_allclose(e.T @ e, np.eye(WIDTH), atol=1e-12)
    np.testing.assert_allclose(u.flatten(1).numpy() @ e, pooled(u).numpy())


def test_density_is_that_of_one_gaussian_in_all_dimensions() -> None:
    """``log p(u | k)`` is scipy's, with the whole covariance over positions and channels built."""
    u, e = random(7, C, SIDE, SIDE), constant_rows()
    covariance, means = covariance_and_means()
    whole = np.eye(len(e)) - e @ e.T + e @ covariance @ e.T
    expected = [multivariate_normal(e @ mean, whole).logpdf(u.flatten(1).numpy()) for mean in means]
    np.testing.assert_allclose(prior().given(u).detach().numpy(), np.stack(expected, axis=1), rtol=1e-6)


def test_a_latent_without_equal_quarters_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="image_size: a latent of 7 x 7 positions has no equal quarters"):
        pooled(random(1, C, 7, 7))


def test_one_component_at_the_start_is_the_standard_normal() -> None:
    """With no mean moved every component, their mixture and every position are AE-FLOW's own prior."""
    u = random(3, C, SIDE, SIDE).float()
    start, plain = FlowGMMPrior(WIDTH, DIRECTIONS, KINDS), StandardNormal().log_prob(u)
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
    u = torch.from_numpy(means @ constant_rows().T).view(-1, C, SIDE, SIDE)
    ratios = prior().log_ratios(u)
    assert int(ratios[kind].argmax()) == kind - 1
    assert ratios[kind].max() > 0
    assert (ratios[0] < 0).all()


def test_only_what_the_positions_of_a_quarter_share_says_anything_of_the_class() -> None:
    """Positions of a quarter changing places, or changes that add up to nothing there, leave the ratios alone."""
    u, mixture, e = random(4, C, SIDE, SIDE), prior(), constant_rows()
    change = random(4, C * SIDE * SIDE, seed=9)
    change = (change - change @ torch.from_numpy(e @ e.T)).view_as(u)
    turned = u.clone()
    turned[:, :, :HALF, :HALF] = u[:, :, :HALF, :HALF].flip(2, 3)
    for other in (u + change, turned):
        torch.testing.assert_close(mixture.log_ratios(other), mixture.log_ratios(u))


def test_drawn_latents_have_the_components_own_moments() -> None:
    covariance, means = covariance_and_means()
    mixture = FlowGMMPrior.of(classes(), SHARE)
    for kind in range(1 + KINDS):
        u = mixture.sample(20_000, (C, SIDE, SIDE), kind, torch.Generator().manual_seed(kind))
        a = pooled(u).double().numpy()
        scale = math.sqrt(np.trace(covariance))
        np.testing.assert_allclose(a.mean(0), means[kind], atol=0.05 * scale)
        np.testing.assert_allclose(np.cov(a.T), covariance, atol=0.05 * scale**2)
        rest = u.flatten(1).double().numpy() @ (np.eye(C * SIDE**2) - constant_rows() @ constant_rows().T)
        assert np.square(rest).mean() == pytest.approx(1 - 4 / SIDE**2, abs=0.01)


def test_draws_through_the_inverse_flow_come_back_as_what_they_were() -> None:
    """Features of a component are of that component: ``flow(flow.inverse(u)) = u``, and Bayes' rule finds it."""
    torch.manual_seed(0)
    flow = Flow(C, steps=3, hidden=8, size=(SIDE, SIDE))
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    mixture = FlowGMMPrior.of(classes(), 0.5)
    with torch.no_grad():
        mixture.mixture.means.mul_(8)  # so far apart that no draw is of another
        for kind in range(1 + KINDS):
            u = mixture.sample(50, (C, SIDE, SIDE), kind, torch.Generator().manual_seed(kind))
            back, _ = flow(flow.inverse(u))
            torch.testing.assert_close(back, u, rtol=1e-3, atol=1e-3)
            assert (mixture.given(back).argmax(1) == kind).all()


def test_the_seed_decides_the_draws() -> None:
    first, second = (prior().float().sample(3, (C, SIDE, SIDE), 1, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)
