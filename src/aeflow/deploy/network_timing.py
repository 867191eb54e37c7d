"""Timing of the network inside a score, with torch: its stages one after another, and the bare encoder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from aeflow._types import Floats32
from aeflow.artifacts.run import Artifact
from aeflow.backends.graph_file import graph_files
from aeflow.backends.onnx import OnnxBackend
from aeflow.backends.openvino import OpenVINOBackend
from aeflow.data.loader import Decoded
from aeflow.data.records import Record, find_images
from aeflow.deploy.benchmark import MAX_IMAGES, STAGES, WARM_UP, Spread
from aeflow.imageio.image import Acquisition
from aeflow.model.encoder import Encoder
from aeflow.model.generate import sample
from aeflow.model.input_statistics import measure_input_statistics
from aeflow.model.maps import anomaly_map
from aeflow.model.pooling import pool
from aeflow.scoring.scorer import Measured, Scorer, calibrated

OF_NETWORK = STAGES[3:]


@contextmanager
def generated(artifact: Artifact, n: int = MAX_IMAGES) -> Iterator[list[Record]]:
    """Yield images that the model generates, as PNG files in a folder that is deleted when the context ends."""
    with tempfile.TemporaryDirectory() as folder:
        for number, x in enumerate(sample(artifact.net, n).cpu().numpy()):
            grey = (x.mean(axis=0) * 255).round().astype(np.uint8)
            PIL.Image.fromarray(grey).save(Path(folder) / f"{number:04d}.png")
        yield find_images([folder])


class TorchNetwork:
    """Network of a run, timed in this process."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.device = artifact, str(artifact.device)

    def stages(
        self, images: Sequence[Decoded], batch: int, rounds: int, advance: Callable[[], None]
    ) -> dict[str, Spread]:
        """Time the stages of this process, in batches."""
        pixels = self._pixels(images)
        laps: dict[str, list[float]] = {name: [] for name in OF_NETWORK}
        for number in range(-WARM_UP, rounds):
            at = [(number * batch + i) % len(pixels) for i in range(batch)]
            seconds, _ = in_stages(self.artifact, pixels[at], [images[i].acquisition for i in at])
            if number >= 0:
                for name, value in seconds.items():
                    laps[name].append(value / batch)
                advance()
        return {name: Spread.of(values) for name, values in laps.items()}

    def bare_encoder(self, scorer: Scorer, images: Sequence[Decoded], batch: int) -> Callable[[], None]:
        """Return a function that runs the encoder alone over all images in memory, in the scorer's backend."""
        pixels, encode = self._pixels(images), encoder_of(self.artifact, scorer)

        def run() -> None:
            for part in torch.split(pixels, batch):
                encode(part)
            _wait(pixels.device)

        return run

    def _pixels(self, images: Sequence[Decoded]) -> torch.Tensor:
        return torch.from_numpy(np.stack([x.pixels for x in images])).to(self.artifact.device)


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
    anomaly_map(net, measures).cpu().numpy()
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


def encoder_of(artifact: Artifact, scorer: Scorer) -> Callable[[torch.Tensor], object]:
    """Return a function that runs the encoder alone on pixels (B, 3, H, W), in the scorer's backend."""
    encoder, backend = artifact.net.encoder, scorer.backend
    if not isinstance(backend, OpenVINOBackend | OnnxBackend):
        return torch.no_grad()(encoder)
    module = _EncoderGraph(encoder).eval()
    files = graph_files(module, module.outputs, backend.size, backend.graph_file)
    graph = type(backend)(files, backend.size, module.outputs)

    def run(x: torch.Tensor) -> dict[str, Floats32]:
        return graph.outputs(x.numpy(), module.outputs)

    return run


class _EncoderGraph(torch.nn.Module):
    """The encoder alone: images (B, 3, H, W) to the features (B, C, h, w) of all stages."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.outputs = tuple(f"stage {stage}" for stage in encoder.stages)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.encoder(x))


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
