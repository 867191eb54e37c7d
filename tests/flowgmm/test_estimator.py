"""Laws of FlowGMM: a density that integrates to one, Bayes' rule, exact inverse; then behaviour."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aeflow.flowgmm.estimator import FlowGMM

QUICK: dict[str, Any] = {"max_steps": 100, "hidden": 32, "flow_steps": 4, "random_state": 0}
BRIEF = {**QUICK, "max_steps": 40}  # trained long enough to have left its start


def hide_labels(y: np.ndarray, per_class: int, seed: int = 0) -> np.ndarray:
    hidden, rng = np.full(len(y), -1), np.random.default_rng(seed)
    for label in np.unique(y):
        hidden[rng.permutation(np.flatnonzero(y == label))[:per_class]] = label
    return hidden


def moons(n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_moons(n, noise=0.1, random_state=0)
    return x * [3.0, 0.5] + [10.0, -2.0], y  # another unit and origin for each feature


def rough(model: FlowGMM) -> FlowGMM:
    """Move the flow far off the identity, where laws could hold by accident."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.mixture_.steps.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


@pytest.fixture(scope="module")
def bent() -> FlowGMM:
    """A model of two features that uses its flow."""
    x, y = moons()
    model = FlowGMM(**QUICK).fit(x, hide_labels(y, 20))
    assert model.trained_steps_ > 0
    return model


@pytest.fixture(scope="module")
def cut() -> FlowGMM:
    """A model of five features of which it models three; the rest is noise."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 5)) @ rng.standard_normal((5, 5)) + 4 * rng.integers(0, 2, (300, 1))
    return rough(FlowGMM(n_directions=3, **QUICK).fit(x, (x[:, 0] > 2).astype(int)))


def grid_mass(model: FlowGMM, n: int = 700) -> tuple[np.ndarray, np.ndarray]:
    """Cells of a grid wide around the moons, (n * n, 2), and the probability of each under the model."""
    x, _ = moons()
    axes = [np.linspace(m - 12 * s, m + 12 * s, n) for m, s in zip(x.mean(0), x.std(0), strict=True)]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return cells, np.exp(model.score_samples(cells)) * np.prod([axis[1] - axis[0] for axis in axes])


@pytest.fixture(scope="module", params=["trained", "rough", "one direction"])
def plane(request: pytest.FixtureRequest, bent: FlowGMM) -> FlowGMM:
    """A model of two features: as trained, with its flow far off the identity, with one direction dropped."""
    if request.param == "one direction":
        x, y = moons()
        return FlowGMM(n_directions=1, **QUICK).fit(x, hide_labels(y, 20))
    return bent if request.param == "trained" else rough(bent)


@pytest.fixture(scope="module")
def masses(plane: FlowGMM) -> tuple[np.ndarray, np.ndarray]:
    return grid_mass(plane)


def test_density_integrates_to_one(masses: tuple[np.ndarray, np.ndarray]) -> None:
    assert masses[1].sum() == pytest.approx(1.0, abs=5e-3)


def test_samples_follow_the_density(plane: FlowGMM, masses: tuple[np.ndarray, np.ndarray]) -> None:
    """Regions that hold a known share of the integral hold the same share of the samples."""
    cells, mass = masses
    samples, _ = plane.sample(20_000)
    for direction in np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 3.0], [1.0, -3.0]]):
        for limit in np.quantile(samples @ direction, [0.1, 0.5, 0.9]):
            share = mass[cells @ direction < limit].sum()
            assert (samples @ direction < limit).mean() == pytest.approx(share, abs=0.02)


def test_density_is_that_of_the_jacobian(bent: FlowGMM) -> None:
    """log p(x, y) = log pi N(u; m, I) + log |det du/dx| with the whole map differentiated by autograd."""
    model = rough(bent)
    mean, scale = torch.from_numpy(model.scaler_.mean_), torch.from_numpy(model.scaler_.scale_)
    directions, root = torch.from_numpy(model.directions_), torch.from_numpy(model.root_)

    def latent(x: torch.Tensor) -> torch.Tensor:
        a = ((x - mean) / scale) @ directions
        u = torch.linalg.solve_triangular(root, a[:, None], upper=False).T
        for step in model.mixture_.steps:
            u = step(u)[0]
        return u[0]

    weights = softmax(model.mixture_.prior.logits.detach().numpy())
    for x in torch.from_numpy(moons()[0][:5]):
        log_det = torch.linalg.slogdet(torch.autograd.functional.jacobian(latent, x)).logabsdet.item()
        u = latent(x).detach().numpy()
        gaussians = [multivariate_normal(m).logpdf(u) for m in model.mixture_.prior.means.detach().numpy()]
        expected = np.log(weights) + gaussians + log_det
        np.testing.assert_allclose(model.predict_joint_log_proba(x.numpy()[None])[0], expected, rtol=1e-9)


def test_dropped_directions_are_gaussian_noise(cut: FlowGMM) -> None:
    """Along a dropped direction ``log p`` falls as a normal density of the residual variance does."""
    assert cut.directions_.shape == (5, 3)
    basis = np.linalg.svd(cut.directions_)[0][:, 3]
    steps = np.linspace(-3, 3, 7)[:, None] * basis
    log_p = cut.score_samples(cut.scaler_.inverse_transform(steps))
    np.testing.assert_allclose(log_p - log_p[3], -0.5 * np.linspace(-3, 3, 7) ** 2 / cut.residual_variance_, atol=1e-8)


def test_one_gaussian_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 3)) * [1.0, 50.0, 0.02]
    ours = FlowGMM(shrinkage=0.0, flow_steps=0).fit(x, np.zeros(200))
    theirs = GaussianMixture(1, reg_covar=0.0).fit(x)
    np.testing.assert_allclose(ours.score_samples(x), theirs.score_samples(x), rtol=1e-4)


def test_posterior_follows_bayes_rule(bent: FlowGMM) -> None:
    x, _ = moons()
    joint = bent.predict_joint_log_proba(x)
    np.testing.assert_allclose(bent.predict_proba(x), softmax(joint, axis=1))
    np.testing.assert_allclose(np.exp(bent.score_samples(x)), np.exp(joint).sum(1))
    np.testing.assert_array_equal(bent.predict(x), bent.classes_[joint.argmax(1)])


def test_samples_of_a_class_are_predicted_as_it(bent: FlowGMM) -> None:
    for label in bent.classes_:
        x, y = bent.sample(500, y=label)
        assert x.shape == (500, 2)
        assert set(y) == {label}
        assert (bent.predict(x) == label).mean() > 0.9


def test_inverse_undoes_the_flow(cut: FlowGMM) -> None:
    v = u = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for step in cut.mixture_.steps:
        u, _ = step(u)
    assert (u - v).abs().max() > 0.1
    torch.testing.assert_close(cut.mixture_.inverse(u), v)


def test_order_of_rows_does_not_matter() -> None:
    x, y = moons(300)
    y, order = hide_labels(y, 20), np.random.default_rng(1).permutation(300)
    one, other = FlowGMM(**BRIEF).fit(x, y), FlowGMM(**BRIEF).fit(x[order], y[order])
    assert one.trained_steps_ > 0
    np.testing.assert_array_equal(one.score_samples(x), other.score_samples(x))


def test_names_of_classes_do_not_matter() -> None:
    x, y = moons(300)
    y = hide_labels(y, 20)
    names = np.array([-1, "b", "a"], dtype=object)[y + 1]
    one, other = FlowGMM(**BRIEF).fit(x, y), FlowGMM(**BRIEF).fit(x, names)
    assert one.trained_steps_ > 0
    assert other.classes_.tolist() == ["a", "b"]
    plain = FlowGMM(**BRIEF).fit(x, names.astype(str))
    as_text = FlowGMM(**BRIEF).fit(x, names.astype(str).astype(object))  # a column that was read as text
    assert as_text.classes_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(as_text.predict_proba(x), other.predict_proba(x))
    np.testing.assert_array_equal(plain.predict_proba(x), other.predict_proba(x))
    assert (np.where(one.predict(x) == 1, "a", "b") == other.predict(x)).mean() > 0.98


def test_unit_of_a_feature_does_not_matter() -> None:
    x, y = moons(300)
    y, unit = hide_labels(y, 20), np.array([1000.0, 0.001])
    one, other = FlowGMM(flow_steps=0).fit(x, y), FlowGMM(flow_steps=0).fit(x * unit, y)
    np.testing.assert_allclose(one.predict_proba(x), other.predict_proba(x * unit), rtol=1e-6)
    np.testing.assert_allclose(one.score_samples(x), other.score_samples(x * unit) + np.log(unit).sum(), rtol=1e-6)


@pytest.mark.parametrize("seeds", [1, pytest.param(4, marks=pytest.mark.torture)])
def test_unlabelled_points_help_on_two_moons(seeds: int) -> None:
    x, y = moons(400)
    scores = []
    for seed in range(seeds):
        few = hide_labels(y, 5, seed)
        known = few != -1
        model = FlowGMM(max_steps=120, learning_rate=1e-2, random_state=0)
        scores.append((model.fit(x, few).score(x, y), model.fit(x[known], few[known]).score(x, y)))
    with_pool, labels_only = np.transpose(scores)
    assert with_pool.mean() > 0.94
    assert (with_pool - labels_only).min() > 0.03


@pytest.mark.parametrize("seeds", [pytest.param(10, marks=pytest.mark.torture)])
def test_breast_cancer_is_steady_over_seeds(seeds: int) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    few, test = hide_labels(y[:400], 10), slice(400, None)
    models = (FlowGMM(max_steps=60, random_state=seed).fit(x[:400], few) for seed in range(seeds))
    scores = [model.score(x[test], y[test]) for model in models]
    control = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[:400][few >= 0], few[few >= 0])
    assert np.std(scores) < 0.02
    assert np.mean(scores) > control.score(x[test], y[test]) - 0.02


def test_same_seed_same_bits_and_pickle(bent: FlowGMM) -> None:
    x, y = moons()
    again = FlowGMM(**QUICK).fit(x, hide_labels(y, 20))
    np.testing.assert_array_equal(again.score_samples(x), bent.score_samples(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(bent)).score_samples(x), bent.score_samples(x))


def test_fit_leaves_the_generator_of_the_caller_alone() -> None:
    x, y = moons(200)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    FlowGMM(**BRIEF).fit(x, y)
    torch.testing.assert_close(torch.rand(3), expected)


def test_several_gaussians_a_class() -> None:
    """A class in two far clumps with the other class between them: one Gaussian a class cannot tell them apart."""
    rng = np.random.default_rng(0)
    y = np.arange(600) % 2
    x = rng.standard_normal((600, 2)) + np.where(y == 1, 8 * rng.choice([-1, 1], 600), 0.0)[:, None]
    one, two = (FlowGMM(n, flow_steps=0, random_state=0).fit(x, hide_labels(y, 100)).score(x, y) for n in (1, 2))
    assert one < 0.9 < 0.99 < two


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_features_one_class_one_feature(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4)).astype(dtype)
    x[:, 1] = 7.0
    y = np.where(np.arange(60) < 10, 3, -1)
    for points in (x, x[:, :1], np.ones((60, 2), dtype)):
        model = FlowGMM(**BRIEF).fit(points, y)
        assert model.classes_.tolist() == [3]
        assert np.isfinite(model.score_samples(points)).all()
        assert (model.predict(points) == 3).all()
        assert np.isfinite(model.sample(5)[0]).all()


def test_minus_one_and_one_are_two_classes_with_a_warning() -> None:
    x, y = moons(100)
    with pytest.warns(UserWarning, match="two classes"):
        assert FlowGMM(flow_steps=0).fit(x, 2 * y - 1).classes_.tolist() == [-1, 1]


def test_bad_input_is_named() -> None:
    x, y = moons(100)
    with pytest.raises(ValueError, match="no label"):
        FlowGMM().fit(x, np.full(100, -1))
    with pytest.raises(ValueError, match="shrinkage"):
        FlowGMM(shrinkage=2).fit(x, y)
    with pytest.raises(ValueError, match="fewer Gaussians"):
        FlowGMM(n_components=4).fit(x[:6], [0, 0, 0, 0, 1, 1])
    model = FlowGMM(flow_steps=0).fit(x, y)
    with pytest.raises(ValueError, match="no class"):
        model.sample(2, y="other")
    with pytest.raises(ValueError, match="at least one"):
        model.sample(0)


def test_unlabelled_points_are_no_class_of_a_score() -> None:
    """In cross-validation too: the accuracy is that of the labelled points, whatever stands for -1."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-3, 1, (40, 4)), rng.normal(3, 1, (40, 4))])
    y = np.repeat([0, 1], 40)
    partly = np.where(np.arange(80) % 2, y, -1)
    model = FlowGMM(flow_steps=0, random_state=0)
    assert cross_val_score(model, x, partly, cv=4).tolist() == [1.0] * 4
    assert model.fit(x, partly.astype(str)).score(x, partly.astype(str)) == 1.0
    assert model.fit(x, partly).score(x, partly) == model.score(x[1::2], y[1::2]) == 1.0
    with pytest.raises(ValueError, match="there is nothing to score"):
        model.score(x, np.full(80, -1))
