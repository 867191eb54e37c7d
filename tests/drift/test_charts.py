"""Charts: quiet where nothing changed, whatever the share of abnormal images; an alarm soon after another scanner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from aeflow.drift.bets import Bets, Tilts
from aeflow.drift.charts import ON_INPUTS, RARITY, STEPS, TILTS, Chart, OtherImages, OtherScores, OverBudget
from aeflow.drift.online_ranks import OnlineRanks
from aeflow.drift.shiryaev_roberts import ShiryaevRoberts

NAMES = ("score", "input_brightness", "input_sharpness")


def normals(rng: np.random.Generator, n: int = 150) -> dict[str, list[float]]:
    """Normals whose score depends a little on their brightness, as it does."""
    brightness, sharpness, rest = rng.normal(size=(3, n))
    return dict(zip(NAMES, ((0.3 * brightness + rest).tolist(), brightness.tolist(), sharpness.tolist()), strict=True))


def images(
    rng: np.random.Generator, n: int, abnormal: float = 0.0, moved: dict[str, float] | None = None
) -> Iterator[dict[str, float]]:
    """Images of which a share is abnormal: of high scores, and otherwise bright and smooth."""
    columns = normals(rng, n)
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(NAMES, values, strict=True))
        if rng.random() < abnormal:
            row = {"score": row["score"] + 3, "input_brightness": row["input_brightness"] + 2, "input_sharpness": -2.0}
        yield {name: value + (moved or {}).get(name, 0.0) for name, value in row.items()}


def alarms(chart: Chart, taken: Iterator) -> list:
    return [alarm for one in taken if (alarm := chart.update(one)) is not None]


def test_nothing_changed_and_nothing_is_said() -> None:
    rng = np.random.default_rng(0)
    for seed in range(3):
        assert alarms(OtherImages(normals(rng), seed=seed), images(rng, 1500)) == []


def test_on_exchangeable_values_the_statistic_grows_by_one_a_value_on_average() -> None:
    """The law behind the time between false alarms, of both families of bets, without allowance for abnormal images."""
    ends, taken = [], 8
    for seed in range(1000):
        values = np.random.default_rng([8, seed]).lognormal(size=30 + taken)
        ranks = OnlineRanks(values[:30].tolist(), seed)
        u = np.array([ranks.add(value) for value in values[30:].tolist()])
        statistic = ShiryaevRoberts(len(ON_INPUTS))
        for time, factors in enumerate(np.hstack([Bets(STEPS).factors(u), Tilts(TILTS).factors(u)])):
            statistic.update(factors, time)
        ends.append(statistic.values.mean())
    error = np.std(ends) / np.sqrt(len(ends))
    assert np.mean(ends) == pytest.approx(taken, abs=4 * error)
    assert error < taken / 20  # a gain of a fifth would be seen


def test_on_exchangeable_images_the_chart_stays_below_their_number_on_average() -> None:
    """With the allowance, and abnormal images among them."""
    ends = []
    for seed in range(60):
        rng = np.random.default_rng([9, seed])
        chart = OtherImages(normals(rng), seed=seed)
        assert alarms(chart, images(rng, 300, 0.05)) == []
        ends.append(chart.value)
    assert np.mean(ends) < 300


def test_more_and_fewer_abnormal_images_are_no_other_scanner() -> None:
    """They are bright and smooth; ranks of all images would alarm at once, as the next test shows."""
    rng = np.random.default_rng(1)
    chart = OtherImages(normals(rng))
    for share in (0.0, 0.2, 0.05, 0.3, 0.0):
        assert alarms(chart, images(rng, 600, share)) == []


def test_the_share_of_abnormal_images_is_a_chart_of_its_own() -> None:
    rng = np.random.default_rng(2)
    chart = OtherScores(150)
    held_out = np.sort(normals(rng)["score"])

    def p_values(n: int, share: float) -> Iterator[float]:
        for row in images(rng, n, share):
            yield float(151 - np.searchsorted(held_out, row["score"])) / 151

    assert alarms(chart, p_values(2000, 0.05)) == []
    found = alarms(chart, p_values(600, 0.25))
    assert found[0].kind == "higher"
    assert 2000 < found[0].at < 2400
    assert found[0].onset.low <= 2000 <= found[0].onset.high


@pytest.mark.parametrize(
    ("moved", "statistic", "kind"),
    [
        ({"input_brightness": 1.5}, "input_brightness", "higher"),
        ({"input_sharpness": -1.5}, "input_sharpness", "lower"),
        ({"input_brightness": 1.5, "score": 0.5}, "input_brightness", "higher"),
        ({"score": 6.0}, RARITY, "lower"),
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_another_scanner_is_an_alarm_that_says_what_and_since_when(moved, statistic, kind, share) -> None:
    delays, right, draws = [], 0, 4
    for seed in range(draws):
        rng = np.random.default_rng([3, seed])
        chart = OtherImages(normals(rng), seed=seed)
        assert alarms(chart, images(rng, 500, share)) == []
        [found, *_] = alarms(chart, images(rng, 400, share, moved)) or [None]
        assert found is not None
        delays.append(found.at - 500)
        assert (found.statistic, found.kind) == (statistic, kind)
        assert sum(found.evidence.values()) == pytest.approx(1)
        right += found.onset.low <= 500 <= found.onset.high
    assert np.median(delays) < 200
    assert right >= draws - 1


def test_it_begins_again_after_an_alarm() -> None:
    rng = np.random.default_rng(4)
    chart = OtherImages(normals(rng))
    found = alarms(chart, images(rng, 400, moved={"input_brightness": 6.0}))
    assert len(found) > 1
    assert all(later.onset.low > earlier.at for earlier, later in pairwise(found))


def test_a_statistic_that_an_image_lacks_is_passed_over() -> None:
    rng = np.random.default_rng(5)
    chart = OtherImages(normals(rng))
    for row in images(rng, 200):
        assert chart.update({"score": row["score"], "input_brightness": float("nan")}) is None
    assert chart.value > 0


def test_the_budget_is_one_of_all_images() -> None:
    rng = np.random.default_rng(6)
    chart = OverBudget(0.1)
    assert alarms(chart, iter(rng.random(4000) < 0.09)) == []
    [found, *_] = alarms(chart, iter(rng.random(600) < 0.25))
    assert 4000 < found.at < 4300


@pytest.mark.parametrize("name", ["OtherImages", "OtherScores", "OverBudget"])
def test_a_chart_goes_on_from_json_as_if_never_stopped(name: str) -> None:
    rng = np.random.default_rng(7)
    reference = normals(rng)
    rows = list(images(rng, 120, 0.2, {"input_brightness": 1.0}))
    make, taken = {
        "OtherImages": (lambda: OtherImages(reference), rows),
        "OtherScores": (lambda: OtherScores(150), rng.integers(1, 152, 120) / 151),
        "OverBudget": (lambda: OverBudget(0.1), rng.random(120) < 0.2),
    }[name]
    whole, first = make(), make()
    expected, found = [], []
    for one in taken:
        whole.update(one)
        expected.append(whole.value)
    for one in taken[:50]:
        first.update(one)
        found.append(first.value)
    second = type(first).from_json(json.loads(json.dumps(first.to_json())))
    for one in taken[50:]:
        second.update(one)
        found.append(second.value)
    assert found == expected
