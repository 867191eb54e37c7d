"""Densities of the latent and the statistics that classes live in: parity, Bayes' rule, inverse, invariance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import chisquare, multivariate_normal
from torch import Tensor

from aeflow.data.augment import recapture
from aeflow.data.preprocess import preprocess
from aeflow.data.records import read_records
from aeflow.features.cache import FeatureCache
from aeflow.imageio.reader import read_image
from aeflow.model.class_mixture import ClassMixture
from aeflow.model.encoder_weights import EMBEDDED, pretrained
from aeflow.model.front import Front, Pooled
from aeflow.model.latent_pca import LatentPCA
from aeflow.model.pooling import pool, statistics, with_statistics
from aeflow.model.priors.gaussian_mixture import GaussianMixture
from aeflow.model.priors.standard_normal import StandardNormal
from helpers.data import SIZE, small_settings

C, K = 5, 3


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mixture(scales: int = C) -> GaussianMixture:
    """Three components in five dimensions; ``scales`` is 1 for spheres."""
    return GaussianMixture(2 * random(K, C), random(K, seed=1), 0.5 * random(K, scales, seed=2))


def reference(prior: GaussianMixture, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``log p(u | k)`` and ``log p(u, k)`` (n, K) of ``u`` (n, C) by scipy."""
    means, scales = prior.means.numpy(), np.broadcast_to(prior.log_scales.exp().numpy(), (K, C))
    given = np.stack([multivariate_normal(m, np.diag(s**2)).logpdf(u) for m, s in zip(means, scales, strict=True)], 1)
    return given, given + np.log(softmax(prior.logits.numpy()))


def test_whole_latents_are_drawn_as_they_were_seen() -> None:
    """The Gaussian of latents that lie in a plane: mean and covariance come back, and nothing outside the plane."""
    plane = random(2, 3 * 4 * 5, seed=1)
    seen = (random(4_000, 2, seed=2) * torch.tensor([3.0, 1.0], dtype=torch.float64)) @ plane
    seen = seen + random(3 * 4 * 5, seed=3)
    prior = LatentPCA([(3, 4, 5)]).double()
    prior.fit([seen.view(-1, 3, 4, 5)])
    covariance, directions = seen.T.cov(correction=0), prior.directions.flatten(1)
    torch.testing.assert_close(directions.T @ directions, covariance)
    [drawn] = prior.sample(20_000, torch.Generator().manual_seed(0))
    drawn = drawn.flatten(1)
    scale = seen.std()
    torch.testing.assert_close(drawn.mean(0), seen.mean(0), atol=0.05 * float(scale), rtol=0)
    assert (drawn.T.cov(correction=0) - covariance).norm() < 0.05 * covariance.norm()
    outside = (drawn - seen.mean(0)) @ (torch.eye(60, dtype=torch.float64) - torch.linalg.pinv(plane) @ plane)
    assert outside.abs().max() < 1e-6 * scale


def test_codes_of_several_stages_are_one_gaussian() -> None:
    """Drawn together, and the nearest code of the span keeps what is in it, within two spreads of the mean."""
    shapes = [(2, 4, 4), (3, 2, 2)]
    codes = [random(50, *shape, seed=i) for i, shape in enumerate(shapes)]
    prior = LatentPCA(shapes, directions=6).double()
    prior.fit(codes)
    drawn = prior.sample(8, torch.Generator().manual_seed(0))
    assert [tuple(part.shape) for part in drawn] == [(8, *shape) for shape in shapes]
    mean = prior.nearest([part.mean(dim=0, keepdim=True) for part in codes])
    for part, expected in zip(mean, codes, strict=True):
        torch.testing.assert_close(part, expected.mean(dim=0, keepdim=True))
    near = prior.nearest(codes)
    for once, twice in zip(near, prior.nearest(near), strict=True):
        torch.testing.assert_close(twice, once)
    far = prior.nearest([100 * part for part in codes])
    joined = torch.cat([part.flatten(1) for part in far], dim=1) - prior.mean
    spreads = prior.directions.norm(dim=1)
    assert ((joined @ (prior.directions.T / spreads**2)).abs() <= 2 + 1e-9).all()


@pytest.mark.parametrize("scales", [1, C])
@pytest.mark.parametrize("grid", [(), (4, 3)])
def test_densities_equal_scipy(scales: int, grid: tuple[int, ...]) -> None:
    prior, u = mixture(scales), 3 * random(8, C, *grid, seed=3)
    positions = np.moveaxis(u.numpy(), 1, -1)
    given, joint = (np.moveaxis(v.reshape(8, *grid, K), -1, 1) for v in reference(prior, positions.reshape(-1, C)))
    np.testing.assert_allclose(prior.joint(u), joint, rtol=1e-10)
    np.testing.assert_allclose(prior.log_prob(u), logsumexp(joint, axis=1), rtol=1e-10)
    np.testing.assert_allclose(prior.posterior(u), softmax(joint, axis=1), atol=1e-12)
    np.testing.assert_allclose(prior.posterior(u).sum(dim=1), np.ones((8, *grid)))
    for y in range(K):
        np.testing.assert_allclose(prior.log_prob_given(u, y), given[:, y], rtol=1e-10)
    y = torch.arange(8) % K
    np.testing.assert_allclose(prior.log_prob_given(u, y), given[np.arange(8), y], rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_component_is_the_standard_normal(dtype: torch.dtype) -> None:
    u, one = random(4, C, 6, 6, dtype=dtype), GaussianMixture(torch.zeros(1, C, dtype=dtype))
    torch.testing.assert_close(one.log_prob(u).float(), StandardNormal().log_prob(u), rtol=1e-6, atol=1e-6)
    assert one.log_prob(u).dtype == one.sample(2).dtype == dtype
    torch.testing.assert_close(one.log_prob(u), one.log_prob_given(u, 0))


def test_weights_count_up_to_a_constant() -> None:
    prior, u = mixture(), random(6, C)
    shifted = GaussianMixture(prior.means.data, prior.logits.data + 7, prior.log_scales.data)
    torch.testing.assert_close(prior.joint(u), shifted.joint(u))


@pytest.mark.parametrize("scales", [1, C])
def test_sample_has_the_moments_of_its_component(scales: int) -> None:
    prior, n = mixture(scales), 20_000
    for y in range(K):
        u = prior.sample(n, y, torch.Generator().manual_seed(y))
        assert u.dtype == torch.float64
        std = prior.log_scales.exp()[y].expand(C)
        assert ((u.mean(0) - prior.means[y]).abs() < 4 * std / n**0.5).all()
        torch.testing.assert_close(u.std(0), std, rtol=0.03, atol=0)


def test_sample_draws_components_by_weight() -> None:
    means = torch.tensor([[-50.0], [0.0], [50.0]])
    weights = torch.tensor([0.2, 0.5, 0.3])
    u = GaussianMixture(means, weights.log()).sample(5_000, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount((u[:, :1] - means.T).abs().argmin(dim=1), minlength=3)
    assert chisquare(counts, 5_000 * weights.double()).pvalue > 0.01
    again = GaussianMixture(means, weights.log()).sample(5_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(u, again)


@pytest.mark.parametrize("learn", [(), ("means",), ("weights", "scales"), ("means", "weights", "scales")])
def test_learn_decides_what_receives_a_gradient(learn: tuple[str, ...]) -> None:
    prior = GaussianMixture(random(K, C), learn=learn)
    parts = {"means": prior.means, "weights": prior.logits, "scales": prior.log_scales}
    assert {name for name, part in parts.items() if part.requires_grad} == set(learn)
    if learn:
        prior.log_prob(random(6, C, seed=1)).sum().backward()
        assert all(parts[name].grad.abs().max() > 0 for name in learn)


def test_default_weights_and_scales_are_apart() -> None:
    """A step on the weights leaves the scales alone, and a state survives its way to another mixture."""
    prior = GaussianMixture(random(K, C), learn=("weights", "scales"))
    with torch.no_grad():
        prior.logits.add_(random(K, seed=1))
    assert (prior.log_scales == 0).all()
    other = GaussianMixture(random(K, C, seed=5))
    other.load_state_dict(prior.state_dict())
    torch.testing.assert_close(other.joint(random(6, C)), prior.joint(random(6, C)))


def features() -> list[Tensor]:
    """Two stages of another width and size."""
    return [random(4, 6, 5, 5), 3 + random(4, 9, 2, 3, seed=1)]


def test_pool_looks_at_directions_wherever_they_are() -> None:
    s = pool(features())
    assert s.shape == (4, 2 * (6 + 9))
    shuffled = [z.flatten(2)[:, :, torch.randperm(z[0, 0].numel())].view_as(z) for z in features()]
    torch.testing.assert_close(pool(shuffled), s)
    scaled = [z * random(*z[:, :1].shape, seed=2).exp() for z in features()]
    torch.testing.assert_close(pool(scaled), s)
    assert not torch.allclose(pool([-z for z in features()]), s)


def test_pool_sees_the_region_alone() -> None:
    """A region of whole positions is as if the others were cut off; one of everything is as none."""
    z = [random(3, 6, 8, 8), 3 + random(3, 9, 4, 4, seed=1)]
    torch.testing.assert_close(pool(z, torch.ones(3, 1, 16, 16)), pool(z))
    left = torch.zeros(3, 1, 16, 16)
    left[..., :8] = 1
    torch.testing.assert_close(pool(z, left), pool([part[..., : part.shape[-1] // 2] for part in z]))
    torch.testing.assert_close(pool(z, 0.5 * left), pool(z, left))
    theirs = random(3, 12, seed=4).abs()
    moved = with_statistics(z[0], theirs, left)
    torch.testing.assert_close(torch.cat(statistics(moved, left), dim=1), theirs)


def test_with_statistics_replaces_them_and_nothing_else() -> None:
    z, other = features()[0], random(4, 6, 5, 5, seed=3)
    own, theirs = (torch.cat([x.mean((2, 3)), x.std((2, 3), correction=0)], dim=1) for x in (z, other))
    torch.testing.assert_close(with_statistics(z, own), z)
    moved = with_statistics(z, theirs)
    torch.testing.assert_close(torch.cat([moved.mean((2, 3)), moved.std((2, 3), correction=0)], dim=1), theirs)
    torch.testing.assert_close(with_statistics(moved, own), z)
    flat = torch.full_like(z, 2.0)
    torch.testing.assert_close(with_statistics(flat, theirs), theirs[:, :6, None, None].expand_as(z))


def test_cached_vectors_are_those_of_the_encoder(data: Path, tmp_path: Path) -> None:
    encoder, records = pretrained(EMBEDDED, (3, 4)), read_records(data, "train")[:20]
    front = Front(encoder, None, small_settings(preset="aeflow-1", classifier="mixture"))
    cache = FeatureCache(Pooled(front, (3, 4)), SIZE, tmp_path, change=recapture)
    cold, refused = cache.features(records)
    warm, _ = cache.features(records)
    assert refused == []
    pixels = torch.from_numpy(np.stack([preprocess(read_image(r.path), SIZE) for r in records]))
    np.testing.assert_allclose(cold.vectors(), pool(encoder(pixels)), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(warm.vectors(), cold.vectors())
    assert not list(tmp_path.rglob("pixels.npy"))
    again, _ = cache.features(records, view=1)
    assert (np.abs(again.vectors() - cold.vectors()).max(axis=1) > 1e-3).all()
    assert cache.features([])[0].vectors().shape == (0, cold.vectors().shape[1])


def class_mixture(kinds: int = 1, width: int = 7, directions: int = 4) -> ClassMixture:
    whitening = random(directions, width)
    parts = random(width, seed=1), whitening, torch.linalg.pinv(whitening), random(1 + kinds, directions, seed=2)
    return ClassMixture(*parts, random(1 + kinds, seed=3)).double()


def test_whitening_has_a_right_inverse() -> None:
    classes, u = class_mixture(), random(5, 4, seed=4)
    torch.testing.assert_close(classes.latent_of(classes.centre + u @ classes.back.T), u)


def test_evidence_is_the_mixtures_own() -> None:
    """With one kind the ratio of the two components; with more, of their weighted sum to the normal one."""
    u = random(9, 4, seed=4)
    one, three = class_mixture().prior, class_mixture(3).prior
    torch.testing.assert_close(
        class_mixture().evidence(u), one.log_prob_given(u, 1) - one.log_prob_given(u, 0), rtol=1e-9, atol=1e-9
    )
    abnormal = three.joint(u)[:, 1:].logsumexp(1) - three.logits.log_softmax(0)[1:].logsumexp(0)
    torch.testing.assert_close(class_mixture(3).evidence(u), abnormal - three.log_prob_given(u, 0))


def test_moved_to_normal_stops_at_an_average_normal_image() -> None:
    classes, s = class_mixture(), 2 * random(200, 7, seed=5)
    before, average = (classes.evidence(u) for u in (classes.latent_of(s), classes.prior.means[:1]))
    moved = classes.moved_to_normal(s)
    torch.testing.assert_close(classes.evidence(classes.latent_of(moved)), before.minimum(average))
    below = before <= average
    assert 0 < below.sum() < 200
    assert torch.equal(moved[below], s[below])
    torch.testing.assert_close(classes.moved_to_normal(moved), moved)


def test_moved_to_normal_leaves_nothing_of_any_kind() -> None:
    classes, s = class_mixture(3), 2 * random(200, 7, seed=5)
    m, u = classes.prior.means, classes.latent_of(s)
    moved = classes.moved_to_normal(s)
    above = classes.evidence(u) > classes.evidence(m[:1])
    left = (classes.latent_of(moved)[above] - m[0]) @ (m[1:] - m[0]).T
    assert left.max() < 1e-2 * ((u - m[0]) @ (m[1:] - m[0]).T).max()
    assert 0 < above.sum() < 200
    assert torch.equal(moved[~above], s[~above])
