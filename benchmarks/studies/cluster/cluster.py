"""What a cluster is to the formulas and to the simulation: its constants, and what disturbs it."""

from __future__ import annotations

from dataclasses import dataclass

from aeflow.archive.engines.ray import WINDOW
from aeflow.archive.part_scorer import FETCHERS
from aeflow.archive.plan import MAX_FILES
from aeflow.archive.sources.tries import FIRST_WAIT, TRIES

REQUESTS = 2  # an object: one HEAD, one GET
MEAN_JITTER = 1.25  # of the back-off, which is up to half as long again


@dataclass(frozen=True, slots=True)
class Cluster:
    """Constants of an archive and of the machines that score it; by default nothing disturbs them."""

    images: int = 100_000_000
    nodes: int = 100
    workers: int = 1  # of a node, eight cores each
    pace: float = 160.0  # images/s of a worker that waits for nothing
    part: int = MAX_FILES  # images
    window: int = WINDOW  # parts after which Ray's actors are started anew
    start: float = 0.0  # seconds until a worker has opened the model
    driver: float = 0.0  # seconds of the driver for each part
    driver_row: float = 0.0  # and for each row of it
    listing: float = 0.0  # seconds of the driver for each image before the first part: listing, plan
    # The store: from 0, which is no store, or no limit.
    latency: float = 0.0  # seconds until an answer begins
    image_bytes: float = 0.0
    stream: float = float("inf")  # bytes/s of one request
    bandwidth: float = float("inf")  # bytes/s of the store in all
    requests: float = float("inf")  # requests/s of the store in all
    busy: float = 0.0  # share of the requests that are answered by 503
    # Disturbances.
    tail: float | None = None  # exponent of the Pareto distribution of the parts' times, of mean 1; None: all alike
    slow_nodes: int = 0
    slowness: float = 3.0  # times as long as a part takes on such a node
    preemptions: float = 0.0  # of a node in an hour
    away: float = 300.0  # seconds that a node is gone, on average

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-self.images // self.part)

    @property
    def all_workers(self) -> int:
        """Workers of all nodes."""
        return self.nodes * self.workers

    @property
    def fetch(self) -> float:
        """Seconds to fetch an object at the first try, by one of a worker's fetchers."""
        return REQUESTS * self.latency + self.image_bytes / self.stream

    @property
    def object_seconds(self) -> float:
        """Mean seconds of a fetcher for an object, with up to ``TRIES`` tries and the waits between them."""
        failed: float = sum(self.busy**k for k in range(1, TRIES + 1))
        waits: float = sum(self.busy**k * FIRST_WAIT * 2 ** (k - 1) * MEAN_JITTER for k in range(1, TRIES))
        return (1 - self.busy**TRIES) * self.fetch + failed * self.latency + waits

    @property
    def image_seconds(self) -> float:
        """Mean seconds of a worker for an image: scored, or waited for, whichever is longer."""
        return max(1 / self.pace, self.object_seconds / FETCHERS)

    @property
    def store_seconds(self) -> float:
        """Seconds of the whole store for an image, at its limits of requests and bytes."""
        tries = sum(self.busy**k for k in range(1, TRIES)) + REQUESTS  # what 503 answers is the first of both requests
        return max(tries / self.requests, self.image_bytes / self.bandwidth)
