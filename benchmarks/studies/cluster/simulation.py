"""Discrete simulation (simpy) of an archive on a cluster, part by part, as the engine of Ray runs it.

The driver lists the files; then, window by window, it gives parts to workers that ask for one whenever they are free,
and writes what comes back, one part at a time; the next window begins, with fresh workers, once the last part of this
one is written. A worker fetches, decodes and scores at once, so a part takes as long as the slower of these. A node
that is preempted ends its workers; their parts go back to the front of the queue. The store serves requests in their
order up to its limits, and answers a share of them by 503.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from aeflow._types import Floats
from aeflow.archive.part_scorer import FETCHERS
from aeflow.archive.sources.tries import FIRST_WAIT, TRIES
from benchmarks.studies.cluster.cluster import REQUESTS, Cluster

HOUR = 3600.0
Events = Generator[simpy.Event, Any, None]


@dataclass(slots=True)
class Outcome:
    """What an archive took."""

    seconds: float
    wasted: float  # share of the workers' busy seconds that went into parts which were done again
    preempted: int  # nodes
    refused: int  # images whose object was answered by 503 at every try
    driver_busy: float  # share of the time
    written: NDArray[np.int64]  # how often each part was


class Node:
    """A machine, which may be away, and the processes of its workers."""

    def __init__(self, environment: simpy.Environment, slowness: float) -> None:
        self.slowness, self.up, self.back = slowness, True, environment.event()
        self.workers: list[simpy.Process] = []


class Simulation:
    """An archive under way; ``run`` takes it to its end."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.env = cluster, simpy.Environment()
        self.nodes = [
            Node(self.env, cluster.slowness if number < cluster.slow_nodes else 1.0) for number in range(cluster.nodes)
        ]
        # Each disturbance has draws of its own, and each node: more of one leaves the others as they are.
        self.factors = part_factors(cluster, np.random.default_rng([seed, 0]))
        self.answers = np.random.default_rng([seed, 1])
        self.seed = seed
        self.written = np.zeros(cluster.parts, np.int64)
        self.queue: deque[int] = deque()
        self.results = simpy.Store(self.env)
        self.news, self.over = self.env.event(), self.env.event()
        self.granted = 0.0  # until when the store is at its limit
        self.worked = self.wasted = self.driven = 0.0
        self.preempted = self.refused = self.left = 0

    def run(self) -> Outcome:
        """Return what the archive took."""
        if self.cluster.preemptions:
            for number, node in enumerate(self.nodes):
                self.env.process(self._preempt(node, np.random.default_rng([self.seed, 2, number])))
        self.env.run(until=self.env.process(self._archive()))
        seconds = float(self.env.now)
        busy = self.worked + self.wasted
        return Outcome(seconds, self.wasted / busy, self.preempted, self.refused, self.driven / seconds, self.written)

    def _archive(self) -> Events:
        cluster = self.cluster
        yield self.env.timeout(cluster.listing * cluster.images)
        driver = self.env.process(self._driver())
        for first in range(0, cluster.parts, cluster.window):
            self.queue = deque(range(first, min(first + cluster.window, cluster.parts)))
            self.left, self.over = len(self.queue), self.env.event()
            for number in range(min(cluster.all_workers, self.left)):
                node = self.nodes[number % cluster.nodes]
                node.workers.append(self.env.process(self._worker(node)))
            yield self.over
            self._tell()  # those who wait for a part see that there is none
            for node in self.nodes:
                node.workers.clear()
        driver.interrupt()

    def _worker(self, node: Node) -> Events:
        """Score parts until the window is over; start anew whenever the node was away."""
        over = self.over
        while not over.triggered:
            part: int | None = None
            begun = 0.0
            try:
                if not node.up:
                    yield node.back
                yield self.env.timeout(self.cluster.start)
                while not over.triggered:
                    if not self.queue:
                        yield self.news
                        continue
                    part, begun = (taken := self.queue.popleft()), self.env.now
                    yield self.env.timeout(self._seconds(taken, node))
                    self.worked += self.env.now - begun
                    self.results.put(taken)
                    part = None
            except simpy.Interrupt:
                if part is not None:
                    self.wasted += self.env.now - begun
                    self.queue.appendleft(part)
                    self._tell()

    def _driver(self) -> Events:
        """Write parts, one at a time."""
        while True:
            try:
                part = yield self.results.get()
            except simpy.Interrupt:
                return
            seconds = self.cluster.driver + self.cluster.driver_row * self._images(part)
            yield self.env.timeout(seconds)
            self.driven += seconds
            self.written[part] += 1
            self.left -= 1
            if not self.left:
                self.over.succeed()

    def _preempt(self, node: Node, rng: np.random.Generator) -> Events:
        """Take the node away at an exponential rate, for a while."""
        while True:
            yield self.env.timeout(rng.exponential(HOUR) / self.cluster.preemptions)
            node.up, self.preempted = False, self.preempted + 1
            for worker in node.workers:
                if worker.is_alive:
                    worker.interrupt()
            yield self.env.timeout(rng.exponential(self.cluster.away))
            node.up, back, node.back = True, node.back, self.env.event()
            back.succeed()

    def _tell(self) -> None:
        """Wake the workers that wait for a part."""
        news, self.news = self.news, self.env.event()
        news.succeed()

    def _images(self, part: int) -> int:
        return min(self.cluster.part, self.cluster.images - part * self.cluster.part)

    def _seconds(self, part: int, node: Node) -> float:
        """Return how long a part takes on a node, which begins it now."""
        cluster, images = self.cluster, self._images(part)
        failed, waited = self._refusals(images)
        fetching = ((images - failed[-1]) * cluster.fetch + sum(failed) * cluster.latency + waited) / FETCHERS
        working = max(images / cluster.pace, fetching) * self.factors[part] * node.slowness
        asked = (images * REQUESTS + sum(failed[:-1])) / cluster.requests
        self.granted = max(self.granted, self.env.now) + max(asked, images * cluster.image_bytes / cluster.bandwidth)
        return float(max(working, self.granted - self.env.now))

    def _refusals(self, images: int) -> tuple[list[int], float]:
        """Return how many objects failed at the first try, the second and so on, and the seconds of all back-offs."""
        failed, waited, left = [], 0.0, images
        if not self.cluster.busy:
            return [0] * TRIES, 0.0
        for attempt in range(TRIES):
            left = int(self.answers.binomial(left, self.cluster.busy))
            failed.append(left)
            if attempt < TRIES - 1:
                waited += FIRST_WAIT * 2**attempt * float(self.answers.uniform(1, 1.5, left).sum())
        self.refused += left
        return failed, waited


def part_factors(cluster: Cluster, rng: np.random.Generator) -> Floats:
    """Return how long each part takes, of mean 1: all alike, or Pareto's tail (1 + x / scale)^-tail from a minimum."""
    if cluster.tail is None:
        return np.ones(cluster.parts)
    least = (cluster.tail - 1) / cluster.tail
    return least * (1 + rng.pareto(cluster.tail, cluster.parts))


def simulate(cluster: Cluster, seed: int) -> Outcome:
    """Return what an archive took in one draw."""
    return Simulation(cluster, seed).run()
