"""Bets gain nothing on average under the null, also with contaminated ranks, and gain on what they bet on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from aeflow.drift.bets import Bet, Bets, Tilt, Tilts, rate_factors
from aeflow.drift.charts import CONTAMINATION, ON_SCORES, STEPS, TILTS

GRID = (np.arange(100_000) + 0.5) / 100_000


@pytest.mark.parametrize("bets", [Bets(STEPS), Tilts(TILTS), Bets(ON_SCORES)], ids=["steps", "tilts", "scores"])
def test_the_mean_factor_of_a_uniform_rank_is_one(bets: Bets | Tilts) -> None:
    np.testing.assert_allclose(bets.factors(GRID).mean(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("others", ["below", "above", "in the middle", "at the ends", "everywhere"])
@pytest.mark.parametrize("bets", [Bets(STEPS, CONTAMINATION), Tilts(TILTS, CONTAMINATION)], ids=["steps", "tilts"])
def test_contamination_of_both_the_value_and_those_before_gains_nothing(bets: Bets | Tilts, others: str) -> None:
    """A share c of the earlier values lies anywhere, which moves clean ranks; a share c of new ones has any rank."""
    c = CONTAMINATION
    below = {  # share of the others that a clean value of rank u is above
        "below": np.ones_like(GRID),
        "above": np.zeros_like(GRID),
        "in the middle": (GRID > 0.5).astype(float),
        "at the ends": np.full_like(GRID, 0.5),
        "everywhere": GRID,
    }[others]
    clean = bets.factors((1 - c) * GRID + c * below).mean(axis=0)
    worst = bets.factors(GRID).max(axis=0)
    assert ((1 - c) * clean + c * worst <= 1 + 1e-3).all()


@pytest.mark.parametrize("bets", [Bets(STEPS), Tilts(TILTS)], ids=["steps", "tilts"])
def test_the_bound_is_not_far_from_what_contamination_can_gain(bets: Bets | Tilts) -> None:
    """Without the allowance the same others would win: the law above can fail."""
    clean, worst = bets.factors(GRID).mean(axis=0), bets.factors(GRID).max(axis=0)
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
    for bets in (
        Bets([Bet(kind, 0.5, 0.5), Bet(opposite, 0.5, 0.5)]),
        Tilts([Tilt(kind, 0.3, 0.9), Tilt(opposite, 0.3, 0.9)]),
    ):
        growth = np.log(bets.factors(ranks)).mean(axis=0)
        assert growth[0] > 0.01 > 0 > growth[1]


@pytest.mark.parametrize(("shift", "times"), [(0.8, 1.8), (1.2, 1.2), (2.0, 1.05)])
def test_a_shift_of_all_values_gains_more_by_a_tilt_than_by_steps(shift: float, times: float) -> None:
    """Normal values that are shifted, under the allowance for contamination."""
    z = ndtri(GRID)
    likely = np.exp(shift * z)
    likely /= likely.sum()
    by_tilts, by_steps = (
        (likely @ np.log(bets.factors(GRID))).max()
        for bets in (Tilts(TILTS, CONTAMINATION), Bets(STEPS, CONTAMINATION))
    )
    assert by_tilts > times * by_steps > 0


def test_no_rank_is_too_far() -> None:
    assert np.isfinite(Tilts(TILTS).factors(np.array([0.0, 1.0]))).all()


def test_bets_on_a_rate_gain_nothing_at_the_rate_and_lose_below_it() -> None:
    instead = np.array([0.2, 0.5])
    yes, no = rate_factors(True, 0.1, instead), rate_factors(False, 0.1, instead)
    np.testing.assert_allclose(0.1 * yes + 0.9 * no, 1)
    assert (0.05 * yes + 0.95 * no < 1).all()
