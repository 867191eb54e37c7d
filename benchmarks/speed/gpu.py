"""Speed of training and scoring on a GPU: bfloat16, torch.compile, and features held in its memory, on and off.

    python -m benchmarks.speed.gpu [--device cuda] [--out benchmarks/results]

Training: preset `paper` on 1,341 features of 1024x16x16 and as many images of 256 px, all made up, 268 more held out
and measured each epoch; 100 epochs the way it ships, 10 the others, whose median epoch compares. Scoring: preset
`aeflow-1` from uint8 images in host memory to measures in host memory. Each way runs alone; how far it moves the
measures from plain float32 stands beside its speed. Writes gpu.json. Without CUDA it says so and exits with 2;
`--device cpu --tiny` runs the same code on a few small images, and its figures mean nothing.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from aeflow.config import make_settings
from aeflow.data.records import Record
from aeflow.features.cached_features import Features, Row, Shard
from aeflow.imageio.image import Acquisition
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import Encoder
from aeflow.model.encoder_weights import pretrained
from aeflow.runtime.device import Plan, images_on
from aeflow.runtime.process import pick_device, prepare
from aeflow.training.loop import Material, fit_network
from benchmarks.common import machine_line, write_results
from benchmarks.options import Parser

TRAIN, HELD_OUT, EPOCHS, COMPARED = 1341, 268, 100, 10
IMAGES, BATCHES, REPEATS = 4096, (64, 256, 1024), 3
TINY: dict[str, Any] = {
    "encoder": "resnet10t",
    "image_size": 64,
    "hidden": 8,
    "flow_steps": 2,
    "decoder": (8, 8, 8),
    "batch_size": 8,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every way to train and to score, and write the results after each."""
    parser = Parser("speed.gpu", __doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="a few small images: tests this script")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.share("--out")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing measured; --device cpu --tiny tests this script", file=sys.stderr)
        sys.exit(2)
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu needs --tiny: its figures would be no GPU's")
    prepare()
    device = pick_device(options.device)
    # Tracing alone where the script is tested; the compiler that would be used where speed is measured.
    compiler = "eager" if options.tiny else "inductor"
    results: dict[str, Any] = {"machine": machine_of(device), "tiny": options.tiny, "shipped": asdict(Plan.of(device))}
    for name, ways in (
        ("training", training(device, options.tiny, options.epochs, compiler)),
        ("scoring", scoring(device, options.tiny, compiler)),
    ):
        results[name] = []
        for row in ways:
            results[name].append(row)
            print(name, json.dumps(row), flush=True)
            # After each way, so that a machine that is taken away leaves what it measured.
            write_results(options.out / "gpu.json", results)


def training(device: torch.device, tiny: bool, epochs: int, compiler: str) -> Iterator[dict[str, Any]]:
    """Yield one row for each way to train the preset `paper`."""
    settings = make_settings("paper", epochs=2 if tiny else epochs, **(TINY if tiny else {}))
    compared = settings.model_copy(update={"epochs": min(settings.epochs or epochs, COMPARED)})
    side = settings.image_size // 16
    channels = Encoder(settings.encoder, settings.stages).channels[0]
    n, held = (16, 8) if tiny else (TRAIN, HELD_OUT)  # whole batches when tiny: one shape to compile
    normals, held_out, watched = (made_up(m, channels, side, seed) for seed, m in enumerate((n, held, 0)))
    material = Material([normals], held_out, watched)
    ships = Plan(train_bfloat16=True, hold=True)
    others = [replace(ships, train_bfloat16=False), replace(ships, hold=False), replace(ships, compiler=compiler)]
    for plan in [ships, *others]:
        asked = settings if plan is ships else compared
        torch.manual_seed(0)
        net = AEFlow(asked, Encoder(asked.encoder, asked.stages)).to(device)
        with tempfile.TemporaryDirectory() as run:
            train = partial(fit_network, net, asked, Path(run), material, False, plan)
            row, progress = timed(train, device, asdict(plan))
        if progress is not None:
            seconds = [epoch["seconds"] for epoch in progress.history]
            row |= {
                "epochs": len(seconds),
                "first_epoch_seconds": seconds[0],
                "median_epoch_seconds": statistics.median(seconds),
                "images_per_second": round(n / statistics.median(seconds), 1),
                "held_out_loss": progress.history[-1]["held_out_loss"],
            }
        yield row


def made_up(n: int, channels: int, side: int, seed: int) -> Features:
    """Return features like those after a ReLU, and images, of ``n`` records."""
    rng = np.random.default_rng(seed)
    shape = (channels, side, side)
    flat = np.maximum(rng.standard_normal((n, math.prod(shape)), np.float32), 0).astype(np.float16)
    pixels = rng.integers(0, 256, (n, 3, 16 * side, 16 * side), np.uint8)
    records = [Record(Path(f"{i}"), f"{i}", "train", 0, f"{i}", None, None) for i in range(n)]
    names = [f"{seed}/{i}" for i in range(n)]
    return Features(records, names, [Row(Shard(flat, pixels, [Acquisition()] * n), i) for i in range(n)], [shape])


def scoring(device: torch.device, tiny: bool, compiler: str) -> Iterator[dict[str, Any]]:
    """Yield one row for each way to score with the preset `aeflow-1`, and each batch size."""
    settings = make_settings("aeflow-1", **({**TINY, "stages": (3,)} if tiny else {}))
    torch.manual_seed(0)
    net = AEFlow(settings, Encoder(settings.encoder, settings.stages) if tiny else pretrained(settings.encoder, (3,)))
    net.to(device).eval()
    n, size = 16 if tiny else IMAGES, settings.image_size
    coarse = 0.5 + (torch.rand(n, 1, 16, 16) - 0.5) * torch.rand(n, 1, 1, 1)  # images of more and less contrast
    images = (255 * F.interpolate(coarse, (size, size), mode="bilinear")).to(torch.uint8).expand(-1, 3, -1, -1)
    images = images.contiguous()
    shake(net, images[:32].to(device))
    exact = measures(net, images, 8 if tiny else 64, False, net)
    batches = (8,) if tiny else BATCHES
    plain = itertools.product((True, False), (None,), batches)
    for bfloat16, compiled, batch in [*plain, (True, compiler, batches[-1])]:  # each batch size would be compiled again
        run = torch.compile(net, backend=compiled) if compiled else net

        def once(batch: int = batch, bfloat16: bool = bfloat16, run: Any = run) -> torch.Tensor:
            return measures(net, images, batch, bfloat16, run)

        row, found = timed(once, device, {"score_bfloat16": bfloat16, "compiler": compiled})
        row = {"batch": batch, "first_seconds": row.pop("seconds", None), **row}
        if found is not None:
            seconds = []
            for _ in range(REPEATS):
                tic = time.perf_counter()
                once()
                seconds.append(time.perf_counter() - tic)
            moved = ((found - exact).abs() / exact.std(dim=0)).amax(dim=0)
            row |= {"images_per_second": round(n / statistics.median(seconds), 1), "moved_by_sd": moved.tolist()}
        yield row


@torch.no_grad()
def shake(net: AEFlow, images: torch.Tensor) -> None:
    """Start the norms and put some weight into the couplings, which begin as identities."""
    x = images.float() / 255
    net.initialise(net.seen(x))
    for parameter in net.flows.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))


@torch.no_grad()
def measures(net: AEFlow, images: torch.Tensor, batch: int, bfloat16: bool, run: Callable[..., Any]) -> torch.Tensor:
    """Return the raw measures (n, columns) on the host of uint8 images (n, 3, H, W) on the host."""
    device = next(net.parameters()).device
    found = []
    with net.in_bfloat16(bfloat16):
        for part in torch.split(images, batch):
            terms = run(images_on(part, device)).terms.values()
            found.append(torch.cat([term.reshape(len(part), -1) for term in terms], dim=1))
    return torch.cat(found).cpu()


def timed(function: Callable[[], Any], device: torch.device, way: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the seconds and memory of ``function`` and its result, None if the compiler could not do it."""
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    row = dict(way)
    tic = time.perf_counter()
    try:
        result = function()
    except Exception as error:
        if way["compiler"] is None:
            raise
        return {**row, "failed": f"{type(error).__name__}: {error}"[:500]}, None  # the other ways are still worth it
    if device.type == "cuda":
        torch.cuda.synchronize()
    row["seconds"] = round(time.perf_counter() - tic, 3)
    row["peak_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1) if device.type == "cuda" else None
    return row, result


def machine_of(device: torch.device) -> str:
    """Return the device and the machine around it, in a line."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, {machine_line()}"


if __name__ == "__main__":
    main()
