"""Formulas of docs/scale.md: the plan as it was, which counts work alone, and the plan as it is."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, expm1

import numpy as np
from scipy.integrate import cumulative_trapezoid, trapezoid

from aeflow._types import Floats
from benchmarks.studies.cluster.cluster import Cluster

HOUR = 3600.0
GRID = 4000  # points of the integrals over the last parts' times


def work_alone(cluster: Cluster) -> float:
    """Return the seconds of the plan as it was: node hours over nodes."""
    return cluster.images / cluster.pace / cluster.all_workers


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds of an archive, and what decides them; ``wasted`` is the share of the work that is done twice."""

    seconds: float
    wasted: float
    narrow: str  # workers, store or driver
    windows: int


def plan(cluster: Cluster) -> Plan:
    """Return the plan: for each window a start, then workers, store or driver, whichever takes longest, and an end.

    A part of ``t`` seconds takes (exp(lambda t) - 1) / lambda of a worker on a node that is lost at the rate
    ``lambda`` (Daly 2006, without checkpoints), so the share done twice is about ``lambda t / 2``; of parts of unlike
    times ``lambda E[t^2] / 2 E[t]``.
    """
    seconds, windows, rest = cluster.listing * cluster.images, 0, cluster.parts
    narrow, wasted = "", 0.0
    while rest:
        parts = min(rest, cluster.window)
        one, wasted, narrow = _window(cluster, parts)
        same = max(1, rest // cluster.window) if parts == cluster.window else 1
        seconds, windows, rest = seconds + same * one, windows + same, rest - same * parts
    return Plan(seconds, wasted, narrow, windows)


def _window(cluster: Cluster, parts: int) -> tuple[float, float, str]:
    """Return the seconds of a window, the share of its work that is done twice, and what decides."""
    workers = min(parts, cluster.all_workers)
    t = cluster.part * cluster.image_seconds
    images = min(parts * cluster.part, cluster.images)
    store = images * cluster.store_seconds
    driver = parts * cluster.driver + images * cluster.driver_row
    slow = cluster.slow_nodes / cluster.nodes
    speed = workers * (1 - slow + slow / cluster.slowness)  # in workers of the usual pace
    rate = cluster.preemptions / HOUR
    again = _again(cluster, t, rate)
    work = parts * t * again / speed
    end = _end(cluster, parts, t, speed, work)
    computing = _with_absences(cluster, rate, cluster.start + work + end)
    first = cluster.start + t  # before the driver has anything to write
    last = cluster.driver + cluster.part * cluster.driver_row
    ways = {"workers": computing + last, "store": cluster.start + store + last, "driver": first + driver}
    narrow = max(ways, key=ways.__getitem__)
    return ways[narrow], 1 - 1 / again, narrow


def _again(cluster: Cluster, t: float, rate: float) -> float:
    """Return how many times its own time a part takes, with what is lost when its node is."""
    if not rate:
        return 1.0
    if cluster.tail is None:
        return expm1(rate * t) / (rate * t)
    a = cluster.tail
    return 1 + rate * t / 2 * (a - 1) ** 2 / (a * (a - 2))  # the mean square of Pareto's law of mean 1


def _with_absences(cluster: Cluster, rate: float, seconds: float) -> float:
    """Return the time until workers that are lost at a rate, and then gone and starting, have been there ``seconds``.

    All are there at first, so the mean share that is, over a time T, falls from 1 to A = 1 / (1 + rate gone) as
    A + (1 - A) (1 - exp(-k T)) / (k T), with k = rate + 1 / gone.
    """
    if not rate:
        return seconds
    gone = cluster.away + cluster.start
    there, k = 1 / (1 + rate * gone), rate + 1 / gone
    total = seconds / there
    for _ in range(50):
        total = seconds / (there + (1 - there) * (1 - exp(-k * total)) / (k * total))
    return total


def _end(cluster: Cluster, parts: int, t: float, speed: float, work: float) -> float:
    """Return the mean time from when the workers would have shared the work evenly until the last part is done.

    Of parts that are alike the last round is a whole one. Otherwise parts begin evenly until ``work`` is over, and
    the last one ends a time y later with the probability 1 - exp(-n P(y)), where P(y) is a part's chance to be that
    late.
    """
    if cluster.tail is None and not cluster.slow_nodes:
        return ceil(parts / speed) * t - parts / speed * t
    longest = t * (cluster.slowness if cluster.slow_nodes else 1)
    reach = longest if cluster.tail is None else 20 * longest * parts ** (1 / cluster.tail)
    y = np.concatenate(
        [np.linspace(0, 4 * longest, GRID), np.geomspace(4 * longest, max(reach, 5 * longest), GRID)[1:]]
    )
    longer = _longer(cluster, y / t, speed)
    after = np.append(0, cumulative_trapezoid(longer, y))  # integral of P(time > z) from 0 to y
    late = (np.interp(y + work, y, after, right=after[-1]) - after) / work
    return float(trapezoid(-np.expm1(-parts * late), y))


def _longer(cluster: Cluster, x: Floats, speed: float) -> Floats:
    """Return the probability that a part takes longer than ``x`` times the mean."""
    slow = cluster.slow_nodes / cluster.nodes
    share = slow / cluster.slowness / (1 - slow + slow / cluster.slowness)  # of the parts
    return (1 - share) * _survival(cluster, x) + share * _survival(cluster, x / cluster.slowness)


def _survival(cluster: Cluster, x: Floats) -> Floats:
    """Return P(X > x) of the parts' times, of mean 1."""
    if cluster.tail is None:
        return np.asarray(x < 1, np.float64)
    least = (cluster.tail - 1) / cluster.tail
    return np.asarray(np.where(x < least, 1.0, (np.maximum(x, least) / least) ** -cluster.tail), np.float64)
