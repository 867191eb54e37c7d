"""Each change made for speed: its prediction, and the time before over the time after, measured in turns.

    python -m benchmarks.speed.changes --run RUN [--page docs/performance.md]

RUN is a model of the preset aeflow-1. Before is the code that the change replaced, kept here in a few lines; after is
the present code. Both run in one process, in turns, and the ratio is the median over turns: a busy machine slows both.
Writes changes.json and the table of docs/performance.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.artifacts import run as artifacts
from aeflow.artifacts.exported_graph import load_export
from aeflow.artifacts.layout import read_metadata
from aeflow.artifacts.run import Artifact
from aeflow.backends.base import Backend
from aeflow.data.records import find_images
from aeflow.deploy.benchmark_table import describe
from aeflow.deploy.export import make
from aeflow.features.openvino_encoder import EncoderGraph
from aeflow.model import ssim
from aeflow.model.encoder import Encoder
from aeflow.model.flow import PositionedConv2d
from aeflow.model.generate import sample
from aeflow.reporting.gallery import gallery
from aeflow.reporting.panels import panel
from aeflow.reporting.score_picture import Frame, encoded
from aeflow.reporting.style import save_png
from aeflow.runtime.device import Plan
from aeflow.runtime.files import write_bytes
from aeflow.runtime.machine import machine
from aeflow.runtime.process import prepare
from aeflow.scoring.scorer import BATCH
from aeflow.training.loop import _Step
from benchmarks.common import DOCS, with_table, write_results
from benchmarks.inputs import scores_of
from benchmarks.options import Parser

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Change:
    """One change; ``before`` and ``after`` do the same work."""

    what: str
    predicted: str
    before: Work
    after: Work


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every change, and write the results and the page's table."""
    parser = Parser("speed.changes", __doc__)
    parser.share("--run", required=True)
    parser.add_argument("--turns", type=int, default=7)
    parser.share("--out")
    parser.share("--page", default=DOCS / "performance.md")
    options = parser.parse_args(arguments)
    facts = machine()
    prepare()
    with changes(options.run) as found:
        measured = [{"what": one.what, "predicted": one.predicted, **ratio(one, options.turns)} for one in found]
    results = {"turns": options.turns, "changes": measured, "machine": facts}
    write_results(options.out / "changes.json", results)
    options.page.write_text(with_table(options.page.read_text(), "changes", table(results)))
    print(table(results))


def ratio(change: Change, turns: int) -> dict[str, float]:
    """Return medians of the milliseconds before and after, and of their ratio with the turns' extremes."""
    seconds: dict[str, list[float]] = {"before": [], "after": []}
    for turn in range(-1, turns):
        for name, work in (("before", change.before), ("after", change.after)):
            tic = time.perf_counter()
            work()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - tic)
    ratios = np.divide(seconds["before"], seconds["after"])
    found = {f"{name}_ms": round(1000 * float(np.median(values)), 2) for name, values in seconds.items()}
    return found | {
        name: round(float(value), 3)
        for name, value in (("ratio", np.median(ratios)), ("low", ratios.min()), ("high", ratios.max()))
    }


@contextmanager
def changes(run: Path) -> Iterator[list[Change]]:
    """Yield all of them, on images that the model makes up."""
    artifact = artifacts.load_run(run)
    x = sample(artifact.net, BATCH)
    pixels = x.numpy()
    torch_ = artifact.scorer.backend
    with tempfile.TemporaryDirectory() as folder:
        graphs = graphs_of(artifact, run, Path(folder))
        measures = artifact.net(x)
        pair = x, measures.x_hat
        scales = artifact.calibration.map_limits
        frame = Frame(scales, artifact.settings.image_size)
        image = Path(folder) / "made-up.png"
        PIL.Image.fromarray((255 * pixels[0, 0]).astype(np.uint8)).save(image)
        [(_, scored)] = scores_of(artifact.scorer, find_images([image]), maps=True, pictures=True)
        encoder, graph = encoders(artifact, x)
        found = [
            Change(
                "SSIM from sums of 1, 2 and 4 neighbours instead of `avg_pool2d`, a batch",
                "12 additions a window instead of 49: 4 times",
                lambda: pooled_ssim(*pair),
                lambda: ssim.ssim(*pair),
            ),
            Change(
                "position encoding convolved once a batch instead of with each image: the flow of a batch",
                "a third of the flow's multiplications fall away: 1.4 times",
                lambda: flow(artifact, x, concatenated=True),
                lambda: flow(artifact, x, concatenated=False),
            ),
            Change(
                "training step of flow and decoder in bfloat16 instead of float32, 32 images",
                "half the bytes, twice the peak: 2 times",
                trainer(artifact, x, bfloat16=False),
                trainer(artifact, x, bfloat16=True),
            ),
            Change(
                "a picture laid into a frame that was drawn once, instead of a figure for each",
                "a quarter of the resampling, one PNG filter instead of five, no layout: 5 times",
                lambda: save_png(gallery([panel(scored)], scales), Path(folder) / "a.png"),
                lambda: write_bytes(Path(folder) / "b.png", encoded(np.asarray(frame.picture(scored)))),
            ),
            Change(
                "a graph of OpenVINO, float32, instead of torch: the measures of a batch",
                "BatchNorm folded into convolutions, fixed shapes: 1.5 times",
                lambda: torch_.run(pixels),
                lambda: graphs["openvino"].run(pixels),
            ),
            Change(
                "a graph of OpenVINO instead of ONNX Runtime, both float32: the order in which `auto` takes them",
                "layouts of 16 channels throughout: 1.3 times",
                lambda: graphs["onnx"].run(pixels),
                lambda: graphs["openvino"].run(pixels),
            ),
            Change(
                "first score of a cold process: a graph that lies there instead of torch",
                "torch and timm need 4 s to import: 3 times",
                starter(run, folder, pixels, "torch"),
                starter(run, folder, pixels, "openvino"),
            ),
            Change(
                "features for training by OpenVINO instead of torch, a batch, the graph at hand",
                "as the graph above, and nothing but convolutions: 2 times",
                lambda: encoder(x),
                lambda: graph(pixels),
            ),
        ]
        yield found


def graphs_of(artifact: Artifact, run: Path, folder: Path) -> dict[str, Backend]:
    """Export to graphs of OpenVINO and of ONNX; return their backends."""
    graphs: dict[str, Backend] = {}
    model = read_metadata(run)
    for name in ("openvino", "onnx"):
        (folder / name).mkdir()
        parity = make(artifact, run, model, name, folder / name)
        if not parity.passes:
            raise SystemExit(f"the graph of {name} gives other scores: {parity}")
        graphs[name] = load_export(folder / name).backend
    return graphs


def encoders(artifact: Artifact, x: Tensor) -> tuple[Encoder, EncoderGraph]:
    """Return the encoder as torch runs it, and its proven graph."""
    encoder = artifact.net.encoder
    stages = encoder(x)
    features = torch.cat([z.flatten(1) for z in stages], dim=1).numpy()
    graph = EncoderGraph.proven(encoder, [z[0].numel() for z in stages], x.numpy(), features)
    if graph is None:
        raise SystemExit("no graph of the encoder: see the note above")
    return encoder, graph


def pooled_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return SSIM as it was computed before: each moment by ``avg_pool2d``."""
    with mock.patch.object(ssim, "_window_means", lambda x, window: F.avg_pool2d(x, window, stride=1)):
        return ssim.ssim(x, y)


def _concatenated(self: PositionedConv2d, z: Tensor, position: Tensor | None = None) -> Tensor:
    given = z if position is None else torch.cat((z, position.expand(len(z), -1, -1, -1)), dim=1)
    found: Tensor = self._conv_forward(given, self.weight, self.bias)
    return found


@torch.no_grad()
def flow(artifact: Artifact, x: Tensor, concatenated: bool) -> object:
    """Return the latents of a batch's features."""
    net = artifact.net
    encoded = net.encoded(_parts(artifact, x), x)
    if not concatenated:
        return net.encode(encoded)
    with mock.patch.object(PositionedConv2d, "forward", _concatenated):
        return net.encode(encoded)


_kept: dict[int, list[Tensor]] = {}


@torch.no_grad()
def _parts(artifact: Artifact, x: Tensor) -> list[Tensor]:
    """Return what the frozen front gives of images, as a cache keeps it."""
    if len(x) not in _kept:
        _kept[len(x)] = artifact.net.front(x)[1:]
    return _kept[len(x)]


def trainer(artifact: Artifact, x: Tensor, bfloat16: bool) -> Work:
    """Return a training step whose learning rate is 0, so that each does the same."""
    net, both = artifact.net, torch.cat((x, x))
    features = _parts(artifact, both)
    optimizer = torch.optim.Adam([*net.flows.parameters(), *net.decoder.parameters()], lr=0.0)
    step = _Step(net, artifact.settings, optimizer, Plan(train_bfloat16=bfloat16))

    def work() -> None:
        net.train()
        step(features, both, len(both), "here")
        net.eval()

    return work


def starter(run: Path, folder: str, pixels: Any, backend: str) -> Work:
    """Return the start of a new process that scores one image."""
    image = Path(folder) / "one.png"
    PIL.Image.fromarray((255 * pixels[0, 0]).astype(np.uint8)).save(image)
    given = str(run) if backend == "torch" else str(Path(folder) / "fp32")
    command = [sys.executable, "-c", "from aeflow.cli import main; main()", "score", given, str(image)]
    return lambda: subprocess.run([*command, "--backend", backend], check=True, capture_output=True)


def table(results: dict[str, Any]) -> str:
    """Return the page's table."""
    lines = ["| change | predicted | before, ms | after, ms | times as fast |", "|---|---|---|---|---|"]
    for one in results["changes"]:
        spread = f"{one['ratio']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
        lines.append(
            f"| {one['what']} | {one['predicted']} | {one['before_ms']:.1f} | {one['after_ms']:.1f} | {spread} |"
        )
    lines += ["", f"Medians of {results['turns']} turns, extremes in brackets. {describe(results['machine'])}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
