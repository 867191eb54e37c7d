"""Comparisons: parity with Welch's test and Benjamini and Hochberg's steps, intervals that hold, none of too few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from aeflow.drift.statistics import MIN_IMAGES, compare, controlled


def test_a_shift_is_found_with_its_size_and_the_p_value_of_welch() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(5, 2, 200), rng.normal(6, 4, 300)
    [found] = compare({"a": old}, {"a": new})
    assert found.shift == pytest.approx((new.mean() - old.mean()) / old.std(ddof=1))
    assert found.spread == pytest.approx(new.std(ddof=1) / old.std(ddof=1))
    theirs = ttest_ind(new, old, equal_var=False)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    interval = [bound / old.std(ddof=1) for bound in theirs.confidence_interval()]
    assert [found.low, found.high] == pytest.approx(interval, rel=1e-9)
    assert found.low < found.shift < found.high


def test_the_interval_holds_the_true_shift_in_95_of_100() -> None:
    rng, inside = np.random.default_rng(1), 0
    for _ in range(250):
        [found] = compare({"a": rng.normal(size=150)}, {"a": rng.normal(0.5, 1, 80)})
        inside += found.low <= 0.5 <= found.high
    assert 0.91 < inside / 250 < 0.98


def test_q_is_benjamini_and_hochbergs_over_all_groups() -> None:
    rng = np.random.default_rng(2)
    groups = [
        compare({str(i): rng.normal(size=50) for i in range(4)}, {str(i): rng.normal(s, 1, 50) for i in range(4)})
        for s in (0, 0.5)
    ]
    found = [one for group in controlled(groups) for one in group]
    falling = sorted(found, key=lambda one: -one.p)
    least = 1.0
    for rank, one in zip(range(len(found), 0, -1), falling, strict=True):
        least = min(least, one.p * len(found) / rank)
        assert one.q == pytest.approx(least)


def test_false_discoveries_are_rare_where_nothing_differs() -> None:
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(60):
        same = compare({str(i): rng.normal(size=60) for i in range(9)}, {str(i): rng.normal(size=60) for i in range(9)})
        wrong += any(one.significant for one in controlled([same])[0])
    assert wrong <= 8


def test_what_cannot_be_compared_is_left_out() -> None:
    many, few, same = np.arange(20.0), np.arange(MIN_IMAGES - 1.0), np.ones(20)
    assert compare({"a": many, "b": few, "c": same}, {"a": few, "b": many, "c": same}) == []
    assert controlled([[]]) == [[]]
    assert compare({"colour": same + 1e-13 * many}, {"colour": many}) == []  # grey, but for rounding
