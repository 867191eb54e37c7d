"""The simulated cluster: undisturbed it is the plan, nothing is lost or counted twice, and trouble never helps."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from aeflow.archive.sources.tries import TRIES
from aeflow.runtime.machine import machine
from benchmarks.studies.cluster import constants, scenarios
from benchmarks.studies.cluster.cluster import Cluster
from benchmarks.studies.cluster.formulas import plan, work_alone
from benchmarks.studies.cluster.simulation import simulate
from benchmarks.studies.cluster.table import table

USUAL = Cluster(images=512 * 1000, nodes=10, start=3, driver=0.005)
LARGE = replace(USUAL, images=2048 * 200, part=2048, pace=20)  # parts of 102 s


def test_what_waits_for_nothing_takes_the_work_alone() -> None:
    cluster = replace(USUAL, start=0, driver=0, nodes=20)
    assert simulate(cluster, 0).seconds == pytest.approx(work_alone(cluster), rel=1e-6)
    assert plan(cluster).seconds == pytest.approx(work_alone(cluster), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "narrow"),
    [
        ({}, "workers"),
        ({"workers": 3, "nodes": 7}, "workers"),
        ({"nodes": 990, "driver": 0.0}, "workers"),  # the last round is of ten parts
        ({"part": 100, "window": 250}, "workers"),
        ({"driver": 0.5, "listing": 1e-4}, "driver"),
        ({"driver_row": 1e-3}, "driver"),
        ({"latency": 0.1, "image_bytes": 1e5, "stream": 1e7}, "workers"),
        ({"requests": 800.0}, "store"),
        ({"image_bytes": 1e6, "bandwidth": 2e8}, "store"),
    ],
    ids=str,
)
def test_undisturbed_it_is_the_plan(changes: dict[str, float], narrow: str) -> None:
    cluster = replace(USUAL, **changes)
    found, planned = simulate(cluster, 0), plan(cluster)
    assert found.seconds == pytest.approx(planned.seconds, rel=0.02)
    assert planned.narrow == narrow
    assert found.wasted == planned.wasted == found.refused == found.preempted == 0


TROUBLE = {"tail": 2.5, "slow_nodes": 1, "preemptions": 60.0, "latency": 0.05, "busy": 0.1, "requests": 3000.0}


@pytest.mark.parametrize("seed", range(4))
def test_no_part_is_lost_and_none_is_counted_twice(seed: int) -> None:
    found = simulate(replace(USUAL, window=300, away=60.0, workers=2, **TROUBLE), seed)
    assert found.preempted > 20  # the law is tried
    assert found.wasted > 0
    np.testing.assert_array_equal(found.written, 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cluster", [USUAL, LARGE, replace(USUAL, tail=2.5)], ids=["usual", "large", "tail"])
def test_more_preemptions_never_end_sooner(cluster: Cluster, seed: int) -> None:
    took = [simulate(replace(cluster, preemptions=rate), seed).seconds for rate in (0.0, 1.0, 4.0, 16.0)]
    assert all(later >= 0.99 * sooner for sooner, later in pairwise(took))
    assert took[-1] > 1.5 * took[0]


def test_work_done_twice_and_hours_are_those_of_the_plan() -> None:
    cluster = replace(LARGE, preemptions=6.0)
    found, planned = [simulate(cluster, seed) for seed in range(10)], plan(cluster)
    assert np.mean([one.wasted for one in found]) == pytest.approx(planned.wasted, rel=0.2)
    assert np.mean([one.seconds for one in found]) == pytest.approx(planned.seconds, rel=0.1)
    assert planned.seconds > 1.4 * plan(LARGE).seconds


def test_longest_parts_and_slow_nodes_are_in_the_plan() -> None:
    for changes in ({"tail": 2.5}, {"slow_nodes": 1}):
        cluster = replace(USUAL, **changes)
        took = np.mean([simulate(cluster, seed).seconds for seed in range(5)])
        assert took == pytest.approx(plan(cluster).seconds, rel=0.1)


def test_what_every_try_is_refused_is_counted() -> None:
    cluster = replace(USUAL, latency=0.05, busy=0.3)
    found = simulate(cluster, 0)
    expected = cluster.images * cluster.busy**TRIES
    assert found.refused == pytest.approx(expected, abs=4 * expected**0.5)
    assert found.seconds == pytest.approx(plan(cluster).seconds, rel=0.05)


def test_the_same_seed_is_the_same_archive() -> None:
    cluster = replace(USUAL, **TROUBLE)
    assert simulate(cluster, 1).seconds == simulate(cluster, 1).seconds != simulate(cluster, 2).seconds


def test_a_longer_part_costs_the_driver_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "PARTS", {128: 3, 2048: 3})
    monkeypatch.setattr(constants, "TRIES", 1)
    assert constants.driver_seconds(2048) > constants.driver_seconds(128) > 0


def test_every_scenario_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "IMAGES", 50_000)
    monkeypatch.setattr(scenarios, "NODES", (10,))
    monkeypatch.setattr(scenarios, "DRAWS", 2)
    monkeypatch.setattr(scenarios, "DRAWS_OF_THE_GRID", 2)
    driver = {"driver_seconds_a_part": 0.01, "driver_seconds_a_row": 1e-5, "driver_seconds_a_listed_image": 1e-5}
    measured = {"images_per_second_of_a_core": 20.0, "image_bytes": 9e3, "start_seconds": 5.0}
    results = json.loads(json.dumps(scenarios.study(driver | measured)))
    written = table({"machine": machine(), **results})
    assert all(f"| {name} |" in written for name in scenarios.DISTURBED)
    assert len(results["grid"]) == len(scenarios.PREEMPTIONS) * len(scenarios.PARTS)
