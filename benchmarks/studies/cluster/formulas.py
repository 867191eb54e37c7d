"""Formulas of docs/scale.md: the plan as it was, which counts work alone, and the plan as it is."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, expm1

import numpy as np
from scipy.integrate import cumulative_trapezoid, trapezoid
from scipy.optimize import brentq

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
    """Return the plan: of all windows the start and then workers, store or driver, whichever takes longest.

    A part of ``t`` seconds takes (exp(lambda t) - 1) / lambda of a worker on a node that is lost at the rate
    ``lambda`` (Daly 2006, without checkpoints), so the share done twice is about ``lambda t / 2``; of parts of unlike
    times ``lambda E[t^2] / 2 E[t]``.
    """
    whole, rest = divmod(cluster.parts, cluster.window)
    windows = [(whole, cluster.window), (1, rest)] if rest else [(whole, cluster.window)]
    number, t = whole + bool(rest), cluster.part * cluster.image_seconds
    rate = cluster.preemptions / HOUR
    last = cluster.driver + cluster.part * cluster.driver_row
    working = sum(
        count * (cluster.start + _makespan(cluster, parts, t, rate) + _written_last(cluster, parts, last))
        for count, parts in windows
        if count
    )
    ways = {
        "workers": _with_absences(cluster, rate, working),
        "store": number * (cluster.start + last) + cluster.images * cluster.store_seconds,
        # It has nothing to write before a first part of each window is there.
        "driver": number * (cluster.start + t) + cluster.parts * cluster.driver + cluster.images * cluster.driver_row,
    }
    narrow = max(ways, key=ways.__getitem__)
    seconds = cluster.listing * cluster.images + ways[narrow]
    return Plan(seconds, 1 - 1 / _again(cluster, t, rate), narrow, number)


def _written_last(cluster: Cluster, parts: int, one: float) -> float:
    """Return the driver's seconds after a window's last part: of parts that are alike a whole round comes at once."""
    alike = cluster.tail is None and not cluster.slow_nodes and not cluster.preemptions
    return one * ((parts - 1) % cluster.all_workers + 1 if alike else 1)


def _again(cluster: Cluster, t: float, rate: float) -> float:
    """Return how many times its own time a part takes, with what is lost when its node is."""
    if not rate:
        return 1.0
    return expm1(rate * t) / (rate * t) if cluster.tail is None else 1 + rate * t * _mean_left(cluster)


def _mean_left(cluster: Cluster) -> float:
    """Return what is left of a part at a random moment of it, E[X^2] / 2 E[X], in mean times of parts."""
    if cluster.tail is None:
        return 0.5
    a = cluster.tail
    return (a - 1) ** 2 / (a * (a - 2)) / 2


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


def _makespan(cluster: Cluster, parts: int, t: float, rate: float) -> float:
    """Return the mean seconds from the start of a window's workers until its last part is done.

    Parts that are alike are done in rounds. Otherwise every worker begins one at 0, and the others begin evenly until
    what is left of those under way is all that is left. The last one is not done at m with the probability
    1 - exp(-sum P(X > m - begun)).
    """
    workers = min(parts, cluster.all_workers)
    slow = cluster.slow_nodes / cluster.nodes
    speed = workers * (1 - slow + slow / cluster.slowness)  # in workers of the usual pace
    if cluster.tail is None and not slow and not rate:
        return ceil(parts / workers) * t
    even = parts * t * _again(cluster, t, rate) / speed
    begins = max(0.0, even - t * _mean_left(cluster) * workers / speed)  # until the last part does
    longest = t * (cluster.slowness if slow else 1) * (1 if cluster.tail is None else parts ** (1 / cluster.tail))
    m = np.concatenate([np.linspace(0, even + 4 * t, GRID), even + np.geomspace(4 * t, 5 * t + 20 * longest, GRID)[1:]])
    longer = _longer(cluster, m / t, rate * t)
    after = np.append(0, cumulative_trapezoid(longer, m))  # integral of P(X > z) from 0 to m
    under_way = workers * longer
    if begins:
        begun = np.minimum(m, begins)  # those that have begun by m; the others are not done either
        later = after - np.interp(m - begun, m, after) + begins - begun
        under_way += (parts - workers) * later / begins
    return float(trapezoid(-np.expm1(-under_way), m))


def _longer(cluster: Cluster, x: Floats, lost: float) -> Floats:
    """Return the probability that a part is not done after ``x`` mean times; ``lost``: losses of a node in one."""
    slow = cluster.slow_nodes / cluster.nodes
    share = slow / cluster.slowness / (1 - slow + slow / cluster.slowness)  # of the parts
    own = (1 - share) * _survival(cluster, x) + share * _survival(cluster, x / cluster.slowness)
    if not lost:
        return own
    # It is begun again at once, and the time lost in y more has an exponential tail (Cramer and Lundberg), of the rate
    # at which a loss before the end, weighed by exp(decay time), has a mean of 1.
    decay = lost + brentq(lambda a: lost * expm1(a) - a, 1e-9, 50.0)
    return np.maximum(own, np.where(x < 1, 1.0, -expm1(-lost) * np.exp(-decay * np.maximum(x - 1, 0))))


def _survival(cluster: Cluster, x: Floats) -> Floats:
    """Return P(X > x) of the parts' times, of mean 1."""
    if cluster.tail is None:
        return np.asarray(x < 1, np.float64)
    least = (cluster.tail - 1) / cluster.tail
    return np.asarray(np.where(x < least, 1.0, (np.maximum(x, least) / least) ** -cluster.tail), np.float64)
