"""Ranks and distributions: parity with scipy, from the middle to far tails."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aeflow.metrics.distributions import midranks, normal_quantile, normal_tail, student_quantile, student_tail

DEGREES = (1, 1.5, 9, 17.3, 200, 5e4, 1e6)


def test_ranks_of_equal_values_are_their_mean() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=50), rng.integers(0, 5, 60).astype(float), np.ones(3), np.zeros(0)):
        np.testing.assert_array_equal(midranks(values), stats.rankdata(values))


@pytest.mark.parametrize("p", [1e-9, 0.025, 0.5, 0.975])
def test_the_normal(p: float) -> None:
    assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-12, abs=1e-14)
    for z in (-3.0, 0.0, 1.96, 8.0, 30.0):
        assert normal_tail(z) == pytest.approx(stats.norm.sf(z), rel=1e-12)


@pytest.mark.parametrize("degrees", DEGREES)
def test_students_tail(degrees: float) -> None:
    for t in (0.0, 1e-6, 0.1, 1.0, 1.96, 5.0, 20.0):
        assert student_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-8, abs=1e-300)


@pytest.mark.parametrize("degrees", DEGREES)
def test_students_quantile_is_the_inverse_of_its_tail(degrees: float) -> None:
    for p in (0.6, 0.95, 0.975, 0.9995):
        found = student_quantile(p, degrees)
        assert found == pytest.approx(stats.t.ppf(p, degrees), rel=1e-8)
        assert student_tail(found, degrees) == pytest.approx(1 - p, rel=1e-10)
