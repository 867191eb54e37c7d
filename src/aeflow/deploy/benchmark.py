"""Timing of a score: each stage by itself, and the whole compared with the bare encoder.

The whole runs as ``score`` does, with the backend that scores, and decodes the next images while the network computes.
With the network itself (``network_timing``, which needs torch), its stages are timed one after another, and the bare
encoder in the same backend as the whole, on pixels in memory. An export, or a run without torch, has the rest.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aeflow._types import Axis
from aeflow.data.loader import Decoded, decoded
from aeflow.data.records import Record, find_images
from aeflow.data.slices import unfold
from aeflow.data.splits import evenly
from aeflow.deploy.decode_timing import timed
from aeflow.errors import DataError
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError
from aeflow.runtime.machine import machine, peak_mb
from aeflow.runtime.progress import bar
from aeflow.scoring.scorer import BATCH, Scorer, score

STAGES = ("decode", "preprocess", "hand over", "encoder", "flow", "decoder", "terms", "maps", "calibration")
MAX_IMAGES = 64  # as many are generated
WARM_UP, ROUNDS = 2, 5  # rounds that do not count, and that do; single images have one round each


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 95th percentile of durations, in milliseconds per image."""

    median: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Compute both from per-image durations in seconds."""
        median, p95 = np.quantile(seconds, (0.5, 0.95)) * 1000
        return cls(round(float(median), 3), round(float(p95), 3))


@dataclass(frozen=True, slots=True)
class Bench:
    """Result of a benchmark, without its warm-up rounds; ``rates`` are images per second."""

    images: int
    batch: int
    device: str
    backend: str  # of the whole
    stages: dict[str, dict[str, Spread]]  # "1" and the scoring batch: each of STAGES; without a network the first three
    single: Spread  # one image from its file to its score and maps, alone
    rates: dict[str, float]  # "encoder" if there is a network, "score", "score with maps"
    over_encoder: dict[str, float]  # the latter two over the first, median of turns; empty without a network
    peak_mb: float | None  # of this process and its decoders, at most
    refusals: list[tuple[Record, ImageError]] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the refusals as their number."""
        return {**asdict(self), "refusals": len(self.refusals)}


def images_of(folder: Path, axis: Axis) -> list[Record]:
    """Return at most MAX_IMAGES of a folder's images, evenly chosen; volumes are cut into slices across ``axis``."""
    return evenly(unfold(find_images([folder]), axis), MAX_IMAGES)


class Network(Protocol):
    """Network behind a scorer, stage by stage; see ``network_timing``."""

    device: str

    def stages(
        self, images: Sequence[Decoded], batch: int, rounds: int, advance: Callable[[], None]
    ) -> dict[str, Spread]:
        """Time the stages of this process, in batches."""

    def bare_encoder(self, scorer: Scorer, images: Sequence[Decoded], batch: int) -> Callable[[], None]:
        """Return a function that runs the encoder alone over all images in memory, in the scorer's backend."""


def bench(scorer: Scorer, records: Sequence[Record], network: Network | None = None, batch: int = BATCH) -> Bench:
    """Measure the whole of ``scorer`` on the images that can be read, and the stages of its network if it is given.

    Raises DataError if none can be read.
    """
    size = scorer.backend.size
    read: list[tuple[Record, Decoded]] = []
    refusals: list[tuple[Record, ImageError]] = []
    for record, x in decoded(records, size):
        if isinstance(x, ImageError):
            refusals.append((record, x))
        else:
            read.append((record, x))
    if not read:
        raise DataError("images", f"none of {len(records)} can be read", f"the first: {refusals[0][1]}")
    kept, images = [record for record, _ in read], [x for _, x in read]
    rounds = {1: len(kept), batch: math.ceil(len(kept) / batch) * ROUNDS} if network else {}
    ways = 2 + (network is not None)
    with bar("Timing", sum(rounds.values()) + len(kept) + ways * ROUNDS) as advance:
        files = _files(kept, size)
        stages = {
            str(b): files | (network.stages(images, b, rounds[b], advance) if network else {}) for b in (1, batch)
        }
        single = _alone(scorer, kept, advance)
        encoder = network.bare_encoder(scorer, images, batch) if network else None
        seconds = _in_turns(encoder, scorer, kept, batch, advance)
    return Bench(
        images=len(kept),
        batch=batch,
        device=network.device if network else "cpu",
        backend=scorer.backend.name,
        stages=stages,
        single=single,
        rates={name: round(len(kept) / float(np.median(turns)), 2) for name, turns in seconds.items()},
        over_encoder={
            name: round(float(np.median(np.divide(seconds["encoder"], turns))), 3)
            for name, turns in seconds.items()
            if network and name != "encoder"
        },
        peak_mb=peak_mb(os.getpid()),
        refusals=refusals,
    )


def _warm(records: Sequence[Record]) -> Iterator[tuple[int, Record]]:
    """Yield records with their numbers from 0, after a few that only warm up, whose numbers are negative."""
    first = records[:WARM_UP]
    return enumerate([*first, *records], -len(first))


def _files(records: Sequence[Record], size: int) -> dict[str, Spread]:
    """Time the stages that run in a decoder process, and the handing over of their results to this one."""
    decode, preprocess, hand_over = [], [], []
    for number, record in _warm(records):
        inside = decoders().submit(timed, record.path, size, record.at).result()
        tic = time.perf_counter()
        [_] = decoded([record], size)
        seconds = time.perf_counter() - tic
        if number >= 0:
            decode.append(inside[0])
            preprocess.append(inside[1])
            hand_over.append(max(0.0, seconds - sum(inside)))
    return {name: Spread.of(values) for name, values in zip(STAGES, (decode, preprocess, hand_over), strict=False)}


def _alone(scorer: Scorer, records: Sequence[Record], advance: Callable[[], None]) -> Spread:
    """Time one image after another, each from its file to its score and maps."""
    seconds = []
    for number, record in _warm(records):
        tic = time.perf_counter()
        list(score(scorer, [record], maps=True))
        if number >= 0:
            seconds.append(time.perf_counter() - tic)
            advance()
    return Spread.of(seconds)


def _in_turns(
    encoder: Callable[[], None] | None,
    scorer: Scorer,
    records: Sequence[Record],
    batch: int,
    advance: Callable[[], None],
) -> dict[str, list[float]]:
    """Return the seconds, by turn, of the bare encoder if there is one, and of ``score`` over all files."""

    def scored(maps: bool) -> None:
        for _ in score(scorer, records, maps=maps, batch_size=batch):
            pass

    ways: dict[str, Callable[[], None]] = {"encoder": encoder} if encoder else {}
    ways |= {"score": lambda: scored(False), "score with maps": lambda: scored(True)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            tic = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - tic)
                advance()
    return seconds
