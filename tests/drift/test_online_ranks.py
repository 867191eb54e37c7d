"""Ranks among all that came before: uniform and independent for exchangeable values, ties or not, and they go on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import kstest

from aeflow.drift.online_ranks import MAX_KEPT, OnlineRanks, OnlineRanksOfLevels


@pytest.mark.parametrize("levels", [None, 3], ids=["continuous", "with many ties"])
def test_ranks_are_uniform_and_independent_whatever_the_distribution(levels: int | None) -> None:
    rng, rows = np.random.default_rng(0), []
    for seed in range(400):
        values = rng.exponential(size=30) if levels is None else rng.integers(levels, size=30)
        ranks = OnlineRanks(values[:10].tolist(), seed)
        rows.append([ranks.add(float(value)) for value in values[10:]])
    u = np.array(rows)
    assert kstest(u.ravel(), "uniform").pvalue > 0.01
    assert kstest(u[:, -1], "uniform").pvalue > 0.01
    assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < 0.03


def test_a_value_above_all_before_has_the_highest_rank() -> None:
    ranks = OnlineRanks(range(99))
    assert ranks.add(1000) > 0.99
    assert ranks.add(-1) < 0.01


def test_ranks_of_levels_are_uniform_too() -> None:
    rng = np.random.default_rng(1)
    u = []
    for seed in range(200):
        ranks = OnlineRanksOfLevels(5, seed)
        u += [ranks.add(int(level)) for level in rng.choice(5, 40, p=[0.5, 0.2, 0.2, 0.05, 0.05])]
    assert kstest(u, "uniform").pvalue > 0.01


@pytest.mark.parametrize("make", [lambda: OnlineRanks([0.0, 3.0], 4), lambda: OnlineRanksOfLevels(9, 4)])
def test_they_go_on_from_json_as_if_never_stopped(make) -> None:
    whole, first = make(), make()
    values = np.random.default_rng(2).integers(9, size=60).tolist()
    expected = [whole.add(value) for value in values]
    found = [first.add(value) for value in values[:30]]
    second = type(first).from_json(json.loads(json.dumps(first.to_json())))
    assert found + [second.add(value) for value in values[30:]] == expected


def test_memory_does_not_grow_for_ever() -> None:
    ranks = OnlineRanks()
    for value in np.random.default_rng(3).normal(size=MAX_KEPT + 500):
        ranks.add(float(value))
    assert len(ranks.to_json()["kept"]) == MAX_KEPT
