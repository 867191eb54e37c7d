"""Localisation: a map that points at the mask has all, a map that knows nothing has exactly chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeflow.errors import DataError
from aeflow.metrics.localisation import (
    HOTTEST,
    Localisation,
    border,
    hottest_count,
    looks,
    mean_of_hottest,
    share_of_hottest,
)

SHARES = ("hottest_point", "hottest_area", "border")


def images(n: int = 30, size: int = 20, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return noisy maps that are a little hotter inside of their masks, which are boxes."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        mask = np.zeros((size, size), bool)
        top, left, height, width = rng.integers((2, 2, 5, 5), (8, 8, 11, 11))
        mask[top : top + height, left : left + width] = True
        found.append((rng.standard_normal((size, size)) + mask, mask))
    return found


def measured(pairs: list[tuple[np.ndarray, np.ndarray]], counts: Any = None, per_patient: int = 1) -> dict[str, Any]:
    measure = Localisation()
    for i, (scores, mask) in enumerate(pairs):
        measure.update(scores, mask, f"p{i // per_patient}", counts)
    found = measure.result()
    assert found is not None
    return found


# Laws


def test_a_map_equal_to_the_mask_lies_inside_of_it() -> None:
    found = measured([(mask.astype(float), mask) for _, mask in images()])
    for name in ("hottest_point", "hottest_area"):
        assert found[name]["value"] == found[name]["high"] == 1
        assert found[name]["low"] < 1  # thirty images are no certainty
        assert looks(found[name]) == "there"


def test_the_map_turned_round_lies_outside_of_it() -> None:
    found = measured([(-mask.astype(float), mask) for _, mask in images()])
    for name in ("hottest_point", "hottest_area"):
        assert found[name]["value"] == 0
        assert looks(found[name]) == "elsewhere"


def test_a_constant_map_has_exactly_chance() -> None:
    found = measured([(np.full(mask.shape, 7.0), mask) for _, mask in images()])
    for name in SHARES:
        assert found[name]["value"] == pytest.approx(found[name]["chance"], abs=1e-12)
        assert found[name]["ratio"] == pytest.approx(1)
        assert looks(found[name]) == "undecided"


def test_a_random_map_cannot_be_told_from_chance() -> None:
    rng = np.random.default_rng(5)
    found = measured([(rng.random(mask.shape), mask) for _, mask in images(400)])
    for name in SHARES:
        assert found[name]["ratio"] == pytest.approx(1, abs=0.2)
        assert looks(found[name]) == "undecided"


@pytest.mark.parametrize("change", [lambda x: 3 * x - 7, np.exp, np.arctan, lambda x: np.cbrt(x)])
def test_only_the_order_of_positions_counts(change: Any) -> None:
    plain, changed = measured(images()), measured([(change(scores), mask) for scores, mask in images()])
    assert plain == changed


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 40), st.integers(1, 6))
def test_a_share_is_the_mean_over_all_ways_to_break_ties(seed: int, n: int, k: int, levels: int) -> None:
    rng, k = np.random.default_rng(seed), min(k, n)
    values, inside = rng.integers(0, levels, n).astype(float), rng.random(n) < 0.4
    share = share_of_hottest(values, inside, k)
    first, last = (
        [(-v, flag, i) for i, (v, flag) in enumerate(zip(values, side, strict=True))] for side in (~inside, inside)
    )
    best, worst = (sum(inside[i] for *_, i in sorted(order)[:k]) / k for order in (first, last))
    assert worst - 1e-12 <= share <= best + 1e-12
    assert share + share_of_hottest(values, ~inside, k) == pytest.approx(1)
    drawn = [inside[np.lexsort((rng.random(n), -values))[:k]].mean() for _ in range(200)]
    assert share == pytest.approx(np.mean(drawn), abs=0.2)


def test_what_does_not_count_is_left_out() -> None:
    counts = np.zeros((20, 20), bool)
    counts[3:17, 3:17] = True
    plain = measured([(scores[3:17, 3:17], mask[3:17, 3:17]) for scores, mask in images()])
    hot = [(np.where(counts, scores, 100.0), mask) for scores, mask in images()]
    empty = [(np.where(counts, scores, np.nan), mask) for scores, mask in images()]
    for pairs in (hot, empty):
        found = measured(pairs, counts)
        for name in ("hottest_point", "hottest_area"):
            assert found[name] == plain[name]
    assert measured(hot)["hottest_point"]["value"] < 0.1
    assert found["border"]["chance"] == 0  # what counts ends before the border
    assert found["border"]["ratio"] is None


def test_a_lesion_outside_of_what_counts_is_missed_not_forgotten() -> None:
    counts, lesion = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    counts[:5], lesion[7:9, 7:9] = True, True
    found = measured([(np.random.default_rng(0).random((10, 10)), lesion)] * 2, counts)
    assert (found["n_images"], found["hottest_point"]["value"], found["hottest_point"]["chance"]) == (2, 0, 0)


def test_masks_that_mark_nothing_are_passed_over() -> None:
    measure = Localisation()
    measure.update(np.eye(4), np.zeros((4, 4), bool), "a")
    assert measure.result() is None
    measure.update(np.eye(4), np.ones((4, 4), bool), "a")
    assert (measure.result() or {})["n_images"] == 1


# Intervals


@pytest.mark.parametrize("per_patient", [1, 2, 5])
def test_the_interval_lies_around_the_value(per_patient: int) -> None:
    found = measured(images(), per_patient=per_patient)
    assert (found["n_images"], found["n_patients"]) == (30, 30 // per_patient)
    for name in SHARES:
        assert 0 <= found[name]["low"] < found[name]["value"] < found[name]["high"] <= 1
    assert [found[name]["interval"] for name in SHARES] == ["wilson", "patient bootstrap", "patient bootstrap"]


def test_the_order_of_images_does_not_matter() -> None:
    one, two = measured(images()), Localisation()
    for i, (scores, mask) in reversed(list(enumerate(images()))):
        two.update(scores, mask, f"p{i}")
    other = two.result() or {}
    for name in SHARES:
        assert one[name] == pytest.approx(other[name])


def test_a_single_patient_gives_no_interval_and_no_conclusion() -> None:
    found = measured(images(), per_patient=30)
    for name in SHARES:
        assert (found[name]["low"], found[name]["high"], found[name]["interval"]) == (None, None, None)
        assert looks(found[name]) == "undecided"


# Parts


def test_the_border_is_a_tenth_of_a_side_wide() -> None:
    found = border((20, 40))
    assert not found[2:-2, 4:-4].any()
    assert found.sum() == 20 * 40 - 16 * 32


def test_the_hottest_are_the_highest() -> None:
    values = np.random.default_rng(0).permutation(200).astype(float)
    assert hottest_count(200) == HOTTEST * 200 == 10
    assert mean_of_hottest(values) == np.mean(np.arange(190, 200))
    assert share_of_hottest(values, values >= 195, 10) == 0.5


@pytest.mark.parametrize(
    ("scores", "mask", "counts", "message"),
    [
        (np.zeros((4, 4)), np.ones((4, 5), bool), None, r"map \(4, 4\), mask \(4, 5\)"),
        (np.zeros(4), np.ones(4, bool), None, "give all as"),
        (np.zeros((4, 4)), np.ones((4, 4), bool), np.ones((2, 2), bool), r"counting area \(2, 2\)"),
        (np.full((4, 4), np.nan), np.ones((4, 4), bool), None, "not finite"),
        (np.zeros((4, 4)), np.ones((4, 4), bool), np.zeros((4, 4), bool), "no position counts"),
    ],
)
def test_what_does_not_fit_is_refused(scores: Any, mask: Any, counts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Localisation().update(scores, mask, "a", counts)
