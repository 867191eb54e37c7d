"""Clusters that are simulated and planned: one disturbance at a time, then preemptions by size of the parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.studies.cluster.cluster import REQUESTS, Cluster
from benchmarks.studies.cluster.formulas import plan, work_alone
from benchmarks.studies.cluster.simulation import simulate

DRAWS, DRAWS_OF_THE_GRID = 5, 3
NODES = (10, 100, 1000)
IMAGES = 4_000_000  # of a simulated archive; longer ones repeat its windows
WHOLE = 100_000_000  # of the plan
CORES = 8  # of a worker
# Assumed. The store is as Amazon's guide to the performance of S3 has it: 100 to 200 ms to the first byte of a small
# object, 85 to 90 MB/s of one request, 5,500 reads a second of one prefix. Large images are scored at an eighth of
# the pace.
STORE: dict[str, Any] = {"latency": 0.1, "stream": 85e6}
OF_A_PREFIX = 5500.0
LARGE = 1 / 8
PREEMPTIONS = (0.0, 0.05, 1.0, 6.0)  # of a node in an hour
PARTS = (256, 512, 2048)  # images
LOSS = 0.1  # share of the time by which a plan is called narrow

Change = Callable[[Cluster], Cluster]


def _slow(cluster: Cluster) -> Cluster:
    """Return a cluster of which a tenth of the nodes takes three times as long."""
    return replace(cluster, slow_nodes=cluster.nodes // 10)


def _changed(**changes: Any) -> Change:
    """Return a change of some constants."""
    return lambda cluster: replace(cluster, **changes)


DISTURBED: dict[str, Change] = {
    "nothing": _changed(),
    "parts' times by Pareto's law, exponent 2.5": _changed(tail=2.5),
    "a tenth of the nodes three times as slow": _slow,
    "each node lost once an hour": _changed(preemptions=1.0),
    "store of 100 ms": _changed(**STORE),
    "the same, 2 % answered by 503": _changed(**STORE, busy=0.02),
    "the same, all in one prefix": _changed(**STORE, requests=OF_A_PREFIX, busy=0.02),
    "all of it but the prefix": lambda one: replace(_slow(one), tail=2.5, preemptions=1.0, busy=0.02, **STORE),
}


def study(found: dict[str, Any]) -> dict[str, Any]:
    """Return everything that is kept in cluster.json but the machine, from measured constants."""
    usual = Cluster(
        images=IMAGES,
        pace=CORES * found["images_per_second_of_a_core"],
        start=found["start_seconds"],
        driver=found["driver_seconds_a_part"],
        driver_row=found["driver_seconds_a_row"],
        listing=found["driver_seconds_a_listed_image"],
        image_bytes=found["image_bytes"],
    )
    large = replace(usual, pace=LARGE * usual.pace)
    workers_alone = replace(usual, driver=0.0, driver_row=0.0, listing=0.0)  # else the driver would hide them
    begun = time.perf_counter()
    return {
        "constants": found,
        "assumed": {**STORE, "requests_of_a_prefix": OF_A_PREFIX, "large": LARGE, "away": usual.away},
        "draws": DRAWS,
        "draws_of_the_grid": DRAWS_OF_THE_GRID,
        "images": IMAGES,
        "checked": {
            name: {str(nodes): checked(change(replace(workers_alone, nodes=nodes)), DRAWS) for nodes in NODES}
            for name, change in DISTURBED.items()
        },
        "grid": [
            {"nodes": nodes, "preemptions": rate, "part": part}
            | checked(replace(large, nodes=nodes, preemptions=rate, part=part), DRAWS_OF_THE_GRID)
            for nodes in NODES
            for rate in PREEMPTIONS
            for part in PARTS
        ],
        "narrow": {name: narrow(one) for name, one in (("small", usual), ("large", large))},
        "preemptible": {name: preemptible(one) for name, one in (("small", usual), ("large", large))},
        "minutes": round((time.perf_counter() - begun) / 60, 1),
    }


def checked(cluster: Cluster, draws: int) -> dict[str, Any]:
    """Return what an archive took in some draws, from seed 0, beside the plan and the plan of work alone."""
    drawn = [simulate(cluster, seed) for seed in range(draws)]
    assert all((one.written == 1).all() for one in drawn), "every part is written once"
    seconds, planned = [one.seconds for one in drawn], plan(cluster)
    return {
        "seconds": {"mean": float(np.mean(seconds)), "sd": float(np.std(seconds, ddof=1))},
        "plan": planned.seconds,
        "narrow": planned.narrow,
        "over_plan": float(np.mean(seconds)) / planned.seconds,
        "over_plan_error": float(np.std(seconds, ddof=1)) / draws**0.5 / planned.seconds,
        "over_work_alone": float(np.mean(seconds)) / work_alone(cluster),
        "wasted": float(np.mean([one.wasted for one in drawn])),
        "wasted_plan": planned.wasted,
        "refused": int(np.sum([one.refused for one in drawn])),
    }


def narrow(cluster: Cluster) -> dict[str, float]:
    """Return what the driver and a store can take, and how many nodes that is; nodes at which starts cost a tenth."""
    remote = replace(cluster, **STORE)
    driver = cluster.part / (cluster.driver + cluster.driver_row * cluster.part)
    images = cluster.window * cluster.part
    return {
        "images_per_second": cluster.pace,
        "images_per_second_from_the_store": 1 / remote.image_seconds,
        "driver_images_per_second": driver,
        "driver_nodes": driver / cluster.pace,
        "prefix_nodes": OF_A_PREFIX / REQUESTS * remote.image_seconds,
        "start_nodes": LOSS * images / cluster.pace / cluster.start,
    }


def preemptible(cluster: Cluster) -> dict[str, dict[str, float]]:
    """Return hours and wasted work of 100 million images on ten nodes by the plan, over those without preemptions."""
    whole = replace(cluster, images=WHOLE, nodes=10)
    calm = plan(whole)
    lossy = {rate: plan(replace(whole, preemptions=rate)) for rate in PREEMPTIONS[1:]}
    return {f"{rate:g}": {"hours": one.seconds / calm.seconds, "wasted": one.wasted} for rate, one in lossy.items()}
