"""Timing of a score: each stage by itself, and the whole compared with the bare encoder.

The stages run one after another on the torch network. The whole runs as ``score`` does, with the backend that scores,
and decodes the next images while the network computes. So the stages show the cost of each, and the whole what is left
of it. The bare encoder runs in the same backend as the whole, on pixels in memory.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from aeflow._types import Axis, Floats32
from aeflow.artifacts.run import Artifact
from aeflow.backends.graph_file import graph_files
from aeflow.backends.onnx import OnnxBackend
from aeflow.backends.openvino import OpenVINOBackend
from aeflow.data.loader import Decoded, decoded
from aeflow.data.records import Record, find_images
from aeflow.data.slices import unfold
from aeflow.data.splits import evenly
from aeflow.deploy.decode_timing import timed
from aeflow.errors import DataError
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Acquisition
from aeflow.model.encoder import Encoder
from aeflow.model.generate import sample
from aeflow.model.input_statistics import measure_input_statistics
from aeflow.model.pooling import pool
from aeflow.runtime.machine import machine, peak_mb
from aeflow.runtime.progress import bar
from aeflow.scoring.scorer import BATCH, Measured, Scorer, calibrated, score

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
    stages: dict[str, dict[str, Spread]]  # "1" and the scoring batch: each of STAGES
    single: Spread  # one image from its file to its score and maps, alone
    rates: dict[str, float]  # "encoder", "score", "score with maps"
    over_encoder: dict[str, float]  # the latter two over the first, median of turns
    peak_mb: float | None  # of this process and its decoders, at most
    refusals: list[tuple[Record, ImageError]] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the refusals as their number."""
        return {**asdict(self), "refusals": len(self.refusals)}


@contextmanager
def generated(artifact: Artifact, n: int = MAX_IMAGES) -> Iterator[list[Record]]:
    """Yield images that the model generates, as PNG files in a folder that is deleted when the context ends."""
    with tempfile.TemporaryDirectory() as folder:
        for number, x in enumerate(sample(artifact.net, n).cpu().numpy()):
            grey = (x.mean(axis=0) * 255).round().astype(np.uint8)
            PIL.Image.fromarray(grey).save(Path(folder) / f"{number:04d}.png")
        yield find_images([folder])


def images_of(folder: Path, axis: Axis) -> list[Record]:
    """Return at most MAX_IMAGES of a folder's images, evenly chosen; volumes are cut into slices across ``axis``."""
    return evenly(unfold(find_images([folder]), axis), MAX_IMAGES)


def bench(artifact: Artifact, scorer: Scorer, records: Sequence[Record], batch: int = BATCH) -> Bench:
    """Measure the stages of the network and the whole of ``scorer`` on the images that can be read.

    Raises DataError if none can.
    """
    size = artifact.settings.image_size
    read: list[tuple[Record, Decoded]] = []
    refusals: list[tuple[Record, ImageError]] = []
    for record, x in decoded(records, size):
        if isinstance(x, ImageError):
            refusals.append((record, x))
        else:
            read.append((record, x))
    if not read:
        raise DataError("images", f"none of {len(records)} can be read", f"the first: {refusals[0][1]}")
    kept = [record for record, _ in read]
    pixels = torch.from_numpy(np.stack([x.pixels for _, x in read])).to(artifact.device)
    acquisitions = [x.acquisition for _, x in read]
    rounds = {1: len(kept), batch: math.ceil(len(kept) / batch) * ROUNDS}
    with bar("Timing", sum(rounds.values()) + len(kept) + 3 * ROUNDS) as advance:
        files = _files(kept, size)
        stages = {str(b): files | _network(artifact, pixels, acquisitions, b, rounds[b], advance) for b in rounds}
        single = _alone(scorer, kept, advance)
        with bare_encoder(artifact, scorer) as encoder:
            seconds = _in_turns(encoder, scorer, kept, pixels, batch, advance)
    return Bench(
        images=len(kept),
        batch=batch,
        device=str(artifact.device),
        backend=scorer.backend.name,
        stages=stages,
        single=single,
        rates={name: round(len(kept) / float(np.median(turns)), 2) for name, turns in seconds.items()},
        over_encoder={
            name: round(float(np.median(np.divide(seconds["encoder"], turns))), 3)
            for name, turns in seconds.items()
            if name != "encoder"
        },
        peak_mb=peak_mb(os.getpid()),
        refusals=refusals,
    )


def _files(records: Sequence[Record], size: int) -> dict[str, Spread]:
    """Time the stages that run in a decoder process, and the handing over of their results to this one."""
    decode, preprocess, hand_over = [], [], []
    for number, record in enumerate([*records[:WARM_UP], *records]):
        inside = decoders().submit(timed, record.path, size, record.at).result()
        tic = time.perf_counter()
        [_] = decoded([record], size)
        seconds = time.perf_counter() - tic
        if number >= WARM_UP:
            decode.append(inside[0])
            preprocess.append(inside[1])
            hand_over.append(max(0.0, seconds - sum(inside)))
    return {name: Spread.of(values) for name, values in zip(STAGES, (decode, preprocess, hand_over), strict=False)}


def _network(
    artifact: Artifact,
    pixels: torch.Tensor,
    acquisitions: Sequence[Acquisition],
    b: int,
    rounds: int,
    advance: Callable[[], None],
) -> dict[str, Spread]:
    """Time the stages of this process, in batches of ``b``."""
    laps: dict[str, list[float]] = {name: [] for name in STAGES[3:]}
    for number in range(-WARM_UP, rounds):
        at = [(number * b + i) % len(pixels) for i in range(b)]
        seconds, _ = in_stages(artifact, pixels[at], [acquisitions[i] for i in at])
        if number >= 0:
            for name, value in seconds.items():
                laps[name].append(value / b)
            advance()
    return {name: Spread.of(values) for name, values in laps.items()}


def _alone(scorer: Scorer, records: Sequence[Record], advance: Callable[[], None]) -> Spread:
    """Time one image after another, each from its file to its score and maps."""
    seconds = []
    for number, record in enumerate([*records[:WARM_UP], *records]):
        tic = time.perf_counter()
        list(score(scorer, [record], maps=True))
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - tic)
            advance()
    return Spread.of(seconds)


@torch.no_grad()
def in_stages(
    artifact: Artifact, x: torch.Tensor, acquisitions: Sequence[Acquisition]
) -> tuple[dict[str, float], list[float]]:
    """Return the seconds of each stage from pixels (B, 3, H, W) to scores, and the scores.

    The stages are those of ``AEFlow.forward`` and ``score``.
    """
    net, clock = artifact.net, _Clock(x.device)
    encoded = net.seen(x)
    clock.lap("encoder")
    latent = net.encode(encoded)
    clock.lap("flow")
    x_hat = net.decode(net.code(encoded, latent))
    clock.lap("decoder")
    measures = net.measure(encoded, latent, x_hat)
    log_ratios = net.log_ratios(encoded, latent)
    ratios = None if log_ratios is None else log_ratios.double().cpu().numpy()
    input_statistics = measure_input_statistics(encoded.x, pool(net.flow_features(encoded))).double().cpu().numpy()
    terms = {name: measure.double().cpu().numpy() for name, measure in measures.terms.items()}
    clock.lap("terms")
    for pixel_map in (net.residual_map(measures), net.anomaly_map(measures)):
        pixel_map.cpu().numpy()
    clock.lap("maps")
    scorer = artifact.scorer
    values = [
        calibrated(
            scorer,
            Measured(
                {name: np.asarray(measure[i]) for name, measure in terms.items()},
                None if ratios is None else ratios[i],
                input_statistics[i],
                acquisitions[i],
                {},
                (),
            ),
        ).value
        for i in range(len(x))
    ]
    clock.lap("calibration")
    return clock.seconds, values


@contextmanager
def bare_encoder(artifact: Artifact, scorer: Scorer) -> Iterator[Callable[[torch.Tensor], object]]:
    """Yield a function that runs the encoder alone on pixels (B, 3, H, W), in the scorer's backend."""
    encoder, backend = artifact.net.encoder, scorer.backend
    if not isinstance(backend, OpenVINOBackend | OnnxBackend):
        yield torch.no_grad()(encoder)
        return
    module = _EncoderGraph(encoder).eval()
    files = graph_files(module, module.outputs, backend.size, backend.graph_file)
    graph = type(backend)(files, backend.size, module.outputs)

    def run(x: torch.Tensor) -> dict[str, Floats32]:
        return graph.outputs(x.numpy(), module.outputs)

    yield run


class _EncoderGraph(torch.nn.Module):
    """The encoder alone: images (B, 3, H, W) to the features (B, C, h, w) of all stages."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.outputs = tuple(f"stage {stage}" for stage in encoder.stages)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.encoder(x))


def _in_turns(
    encode: Callable[[torch.Tensor], object],
    scorer: Scorer,
    records: Sequence[Record],
    pixels: torch.Tensor,
    batch: int,
    advance: Callable[[], None],
) -> dict[str, list[float]]:
    """Return the seconds of the bare encoder over all images in memory, and of ``score`` over their files, by turn."""

    def encoder() -> None:
        for part in torch.split(pixels, batch):
            encode(part)
        _wait(pixels.device)

    def scored(maps: bool) -> None:
        for _ in score(scorer, records, maps=maps, batch_size=batch):
            pass

    ways: dict[str, Callable[[], None]] = {
        "encoder": encoder,
        "score": lambda: scored(False),
        "score with maps": lambda: scored(True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            tic = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - tic)
                advance()
    return seconds


class _Clock:
    """Seconds since the last lap, by name."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        _wait(device)
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        _wait(self.device)
        now = time.perf_counter()
        self.seconds[name], self.last = now - self.last, now


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
