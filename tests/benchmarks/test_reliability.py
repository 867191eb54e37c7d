"""Probabilities that mean what they say, and those that do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve

from aeflow.errors import DataError
from benchmarks.calibration.reliability import at_prevalence, calibration_error, net_benefit, reliability


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn by them."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.7, 0.9, n)
    return p, (rng.random(n) < p).astype(int)


def test_the_error_of_a_perfect_probability_vanishes_with_more_images():
    errors = [reliability(*drawn(n)).error for n in (200, 20_000, 500_000)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2e-3


def test_the_error_is_the_distance_of_a_probability_that_is_off_by_as_much_everywhere():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.3, 0.9, 200_000)
    assert reliability(p, rng.random(len(p)) < p - 0.2).error == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("bins", [5, 10])
def test_the_curve_is_that_of_scikit_learn(bins):
    p, y = drawn(777)
    p = np.round(p, 2)  # ties
    found, predicted = calibration_curve(y, p, n_bins=bins, strategy="quantile")
    ours = reliability(p, y, bins)
    np.testing.assert_allclose(ours.found, found)
    np.testing.assert_allclose(ours.predicted, predicted)
    assert ours.counts.sum() == len(p)


def test_one_probability_for_all_is_one_bin():
    curve = reliability(np.full(10, 0.3), np.r_[np.ones(5), np.zeros(5)])
    assert curve.counts.tolist() == [10]
    assert curve.error == pytest.approx(0.2)


def test_the_interval_is_over_patients():
    p, y = drawn(300)
    value, low, high = calibration_error(p, y, [str(i) for i in range(300)])
    assert value == reliability(p, y).error
    assert low < high
    doubled = calibration_error(np.repeat(p, 4), np.repeat(y, 4), [str(i // 4) for i in range(1200)])
    assert doubled[0] == pytest.approx(value)
    assert doubled[2] - doubled[1] == pytest.approx(high - low, rel=0.2)  # four copies are no more patients


def test_treating_all_and_none():
    """All: ``pi - (1 - pi) t / (1 - t)``, nothing where ``t = pi``; none: 0; by the truth: ``pi``."""
    y = np.r_[np.ones(30), np.zeros(70)]
    t = np.linspace(0.05, 0.9, 18)
    np.testing.assert_allclose(net_benefit(np.ones(100), y, t), 0.3 - 0.7 * t / (1 - t))
    np.testing.assert_allclose(net_benefit(np.zeros(100), y, t), 0)
    np.testing.assert_allclose(net_benefit(y, y, t), 0.3)
    assert net_benefit(np.ones(100), y, 0.3)[0] == pytest.approx(0)
    np.testing.assert_allclose(net_benefit(np.ones(100), y, t, prevalence=0.02), 0.02 - 0.98 * t / (1 - t))


def test_the_true_probability_is_never_worse_than_all_or_none():
    p, y = drawn(100_000)
    t = np.linspace(0.05, 0.95, 19)
    ours = net_benefit(p > t[:, None], y, t)
    assert (ours > np.maximum(net_benefit(np.ones_like(y), y, t), 0) - 2e-3).all()
    wrong = net_benefit(1 - p > t[:, None], y, t)
    assert (wrong < ours).all()


def test_another_prevalence_is_bayes_rule():
    """Two Gaussians: the probability under one share, corrected, is that under the other."""
    x = np.linspace(-3, 5, 50)
    ratio = 2 * (x - 1)  # log of N(2, 1) over N(0, 1)

    def probability(share: float) -> np.ndarray:
        return expit(ratio + np.log(share / (1 - share)))

    np.testing.assert_allclose(at_prevalence(probability(0.5), 0.5, 0.03), probability(0.03))
    np.testing.assert_allclose(at_prevalence(at_prevalence(probability(0.2), 0.2, 0.7), 0.7, 0.2), probability(0.2))


@pytest.mark.parametrize(
    ("p", "y", "found"),
    [
        ([0.1, 1.2], [0, 1], "a value outside 0 to 1"),
        ([0.1, np.nan], [0, 1], "a value outside 0 to 1"),
        ([0.1, 0.2], [0, 2], "a label other than 0 and 1"),
        ([0.1], [0, 1], "probabilities"),
        ([], [], "probabilities"),
    ],
)
def test_what_is_no_probability_is_refused(p, y, found):
    with pytest.raises(DataError, match=found):
        reliability(p, y)


def test_net_benefit_needs_both_classes():
    with pytest.raises(DataError, match="one class alone"):
        net_benefit([1, 0], [1, 1], [0.5])
