"""Bets gain nothing on average under the null, also with contaminated ranks, and gain on what they bet on."""

from __future__ import annotations

import numpy as np
import pytest

from aeflow.drift.bets import Bet, Bets, rate_factors
from aeflow.drift.charts import CONTAMINATION, ON_INPUTS, ON_SCORES

GRID = (np.arange(100_000) + 0.5) / 100_000


@pytest.mark.parametrize("bets", [ON_INPUTS, ON_SCORES], ids=["inputs", "scores"])
def test_the_mean_factor_of_a_uniform_rank_is_one(bets: tuple[Bet, ...]) -> None:
    np.testing.assert_allclose(Bets(bets).factors(GRID).mean(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("others", ["below", "above", "in the middle", "at the ends", "everywhere"])
def test_contamination_of_both_the_value_and_those_before_gains_nothing(others: str) -> None:
    """A share c of the earlier values lies anywhere, which moves clean ranks; a share c of new ones has any rank."""
    c = CONTAMINATION
    below = {  # share of the others that a clean value of rank u is above
        "below": np.ones_like(GRID),
        "above": np.zeros_like(GRID),
        "in the middle": (GRID > 0.5).astype(float),
        "at the ends": np.full_like(GRID, 0.5),
        "everywhere": GRID,
    }[others]
    bets = Bets(ON_INPUTS, c)
    clean = bets.factors((1 - c) * GRID + c * below).mean(axis=0)
    worst = bets.factors(GRID).max(axis=0)
    assert ((1 - c) * clean + c * worst <= 1 + 1e-3).all()


def test_the_bound_is_not_far_from_what_contamination_can_gain() -> None:
    """Without the allowance the same others would win: the law above can fail."""
    clean, worst = Bets(ON_INPUTS).factors(GRID).mean(axis=0), Bets(ON_INPUTS).factors(GRID).max(axis=0)
    assert ((1 - CONTAMINATION) * clean + CONTAMINATION * worst > 1.02).all()


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [
        ("lower", GRID**2),
        ("higher", np.sqrt(GRID)),
        ("wider", 0.5 + np.sign(GRID - 0.5) * np.sqrt(np.abs(GRID - 0.5) / 2)),
        ("narrower", 0.5 + 2 * np.sign(GRID - 0.5) * np.square(GRID - 0.5)),
    ],
)
def test_each_kind_gains_on_its_own_change_and_its_opposite_does_not(kind, ranks) -> None:
    opposite = {"lower": "higher", "higher": "lower", "wider": "narrower", "narrower": "wider"}[kind]
    growth = np.log(Bets([Bet(kind, 0.5, 0.5), Bet(opposite, 0.5, 0.5)]).factors(ranks)).mean(axis=0)
    assert growth[0] > 0.01 > 0 > growth[1]


def test_bets_on_a_rate_gain_nothing_at_the_rate_and_lose_below_it() -> None:
    instead = np.array([0.2, 0.5])
    yes, no = rate_factors(True, 0.1, instead), rate_factors(False, 0.1, instead)
    np.testing.assert_allclose(0.1 * yes + 0.9 * no, 1)
    assert (0.05 * yes + 0.95 * no < 1).all()
