"""The statistic is the sum over all beginnings, its moments are those of the posterior, and R - t has mean 0."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aeflow.drift.shiryaev_roberts import ShiryaevRoberts, onset


def test_it_is_the_sum_over_all_times_at_which_the_change_may_have_come() -> None:
    factors = np.random.default_rng(0).uniform(0.3, 2, (25, 3))
    statistic = ShiryaevRoberts(3)
    for time, row in enumerate(factors):
        statistic.update(row, time)
    since = np.array([factors[start:].prod(axis=0) for start in range(25)])  # (start, bets)
    np.testing.assert_allclose(statistic.values, since.sum(axis=0))
    weights = np.array([0.5, 0.3, 0.2])
    posterior = since @ weights / (since @ weights).sum()
    mean = posterior @ np.arange(25)
    spread = np.sqrt(posterior @ (np.arange(25) - mean) ** 2)
    found = onset(statistic.moments(weights), 0, 24)
    assert found == pytest.approx((mean, max(0, mean - 2 * spread), min(24, mean + 2 * spread)))


def test_less_the_time_it_is_a_martingale() -> None:
    rng, ends = np.random.default_rng(1), []
    for _ in range(1500):
        statistic = ShiryaevRoberts(1)
        for time in range(20):
            statistic.update(np.where(rng.random(1) < 0.5, 1.3, 0.7), time)
        ends.append(statistic.values[0])
    assert np.mean(ends) == pytest.approx(20, abs=4 * np.std(ends) / np.sqrt(1500))


def test_no_bet_changes_nothing() -> None:
    statistic = ShiryaevRoberts(2)
    statistic.update(np.array([2.0, 3.0]), 0)
    before = statistic.values.copy()
    statistic.update(np.array([1.0]), 1, slice(1, 2))
    assert statistic.values[0] == before[0]
    assert statistic.values[1] == before[1] + 1


def test_it_goes_on_from_json() -> None:
    factors = np.random.default_rng(2).uniform(0.3, 2, (30, 2))
    whole, first = ShiryaevRoberts(2), ShiryaevRoberts(2)
    for time, row in enumerate(factors):
        whole.update(row, time)
        first.update(row, time) if time < 12 else None
    second = ShiryaevRoberts.from_json(json.loads(json.dumps(first.to_json())))
    for time, row in enumerate(factors[12:], 12):
        second.update(row, time)
    np.testing.assert_array_equal(second.values, whole.values)
