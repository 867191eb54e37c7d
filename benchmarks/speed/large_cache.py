"""Memory of a training on up to a million cached images.

    python -m benchmarks.speed.large_cache [--work DIR] [--out benchmarks/results]

For each number of images a cache is made up whose shards are one shard under many names: the rows repeat, their keys do
not. A fresh process takes it for its own, checks all of it as a training does, and makes a bounded number of steps over
images drawn from all of it. Rows are small (32 pixels, a tiny network), so that a million fit a disk and an hour; what
an image costs in memory does not depend on its size, since arrays stay on disk.

Memory is counted in two: the process's own, of which ``bytes_an_image`` is made, and what it holds of files: libraries,
which the system may take back at any time, and rows that it reads.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aeflow.config import make_settings
from aeflow.data.records import Record
from aeflow.features.cache import FEATURES, PIXELS, SHARD_IMAGES, FeatureCache
from aeflow.features.cached_features import Features
from aeflow.features.device_batches import Feed
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import Encoder
from aeflow.runtime.cache import IMAGES, seal
from aeflow.runtime.device import Plan
from aeflow.runtime.files import write_text
from aeflow.runtime.machine import machine
from aeflow.runtime.process import prepare
from aeflow.training.loop import Material, _Step, _train_epoch
from benchmarks.common import write_results
from benchmarks.options import Parser

IMAGES_IN_CACHE = (1_000, 10_000, 100_000, 1_000_000)
STEPS = 200  # of 32 images each
START = "before"
SETTINGS = make_settings(
    "aeflow-1", encoder="test_efficientnet", image_size=32, stages=(3,), hidden=16, flow_steps=2, augmented_views=0
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each number of images in a process of its own, and write what each image costs."""
    parser = Parser("speed.large_cache", __doc__)
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES_IN_CACHE)
    parser.add_argument("--one", action="store_true", help="measure the first number in this process")
    parser.share("--work", "--out")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measured(options.images[0], options.work)))
        return
    rows = []
    for images in options.images:
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            command = [sys.executable, "-m", "benchmarks.speed.large_cache", "--one", "--work", folder]
            done = subprocess.run([*command, "--images", str(images)], stdout=subprocess.PIPE, check=True, text=True)
        rows.append(json.loads(done.stdout))
        print(rows[-1], flush=True)
    costs = bytes_an_image(rows[-2:])
    result = {"rows": rows, "bytes_an_image": costs, "steps": STEPS, "machine": machine()}
    write_results(options.out / "large_cache.json", result)
    print(json.dumps(costs))


def bytes_an_image(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return what each further image adds to the process's own memory up to each stage, from the first row to the last.

    That of the start is left out.
    """
    few, many = rows[0], rows[-1]
    more = max(1, many["images"] - few["images"])
    return {
        when: round(((many["own_mb"][when] - many["own_mb"][START]) - (held - few["own_mb"][START])) * 1e6 / more)
        for when, held in few["own_mb"].items()
    }


def measured(images: int, root: Path) -> dict[str, Any]:
    """Return the memory of this process as it trains on a made-up cache of so many images."""
    prepare()
    torch.manual_seed(0)
    encoder = Encoder(SETTINGS.encoder, SETTINGS.encoder_stages)
    cache = FeatureCache.of(encoder, SETTINGS, root)
    make_up(cache, images)
    net = AEFlow(SETTINGS, encoder)
    memory = {START: resident()}
    records = [record(i) for i in range(images)]
    memory["records"] = resident()
    tic = time.perf_counter()
    features, _ = cache._found(records, [key(i) for i in range(images)], {})
    opened = time.perf_counter() - tic
    memory["features"] = resident()
    tic = time.perf_counter()
    train(net, features)
    memory["steps"] = resident()
    return {
        "images": images,
        "own_mb": {when: round(parts["VmRSS"] - parts["RssFile"], 1) for when, parts in memory.items()},
        "of_files_mb": {when: round(parts["RssFile"], 1) for when, parts in memory.items()},
        "peak_mb": round(peak(), 1),
        "seconds": {"opened": round(opened, 1), "steps": round(time.perf_counter() - tic, 1)},
    }


def make_up(cache: FeatureCache, images: int) -> None:
    """Write shards that share the arrays of the first."""
    rng, width = np.random.default_rng(0), sum(math.prod(shape) for shape in cache.shapes)
    first: Path | None = None
    for start in range(0, images, SHARD_IMAGES):
        n = min(SHARD_IMAGES, images - start)
        shard = cache.folder / f"shard-{start:08}"
        shard.mkdir(parents=True)
        if first is None or n < SHARD_IMAGES:
            np.save(shard / FEATURES, rng.random((n, width), np.float32).astype(cache.dtype))
            np.save(shard / PIXELS, rng.integers(0, 256, (n, 3, SETTINGS.image_size, SETTINGS.image_size), np.uint8))
            first = first or shard
        else:
            for name in (FEATURES, PIXELS):
                os.link(first / name, shard / name)
        facts = {"kind": "DX", "colours": "monochrome", "size": [1024, 1024]}
        rows = [(key(i), facts) for i in range(start, start + n)]
        write_text(shard / IMAGES, json.dumps({"by": "made up", "rows": rows}))
        seal(shard, "made up")


def key(number: int) -> str:
    """Return the key of an image's features: a digest, as of a file."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def record(number: int) -> Record:
    """Return a record as a data folder gives it."""
    path = Path(f"/data/chest/train/normal/patient{number // 2:07}_{number:08}.png")
    return Record(path, f"train/normal/{path.name}", "train", 0, f"patient{number // 2:07}", None, None)


def train(net: AEFlow, features: Features) -> None:
    """Make STEPS steps over images drawn from all."""
    settings = net.settings
    none = Features([], [], [], features.shapes)
    order = Material([features], none, none).shuffled(0, 1)
    feed = Feed(features, torch.device("cpu"))
    net.initialise(net.encoded(*feed.batch(order[: settings.batch_size])))
    parameters = [*net.flows.parameters(), *net.decoder.parameters()]
    step = _Step(net, settings, torch.optim.Adam(parameters, settings.learning_rate), Plan())
    drawn = (order * math.ceil(STEPS * settings.batch_size / len(order)))[: STEPS * settings.batch_size]
    _train_epoch(step, feed, drawn, 1, 1)


def resident() -> dict[str, float]:
    """Return the memory that this process holds now, in MB: all of it, and what is of mapped files (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1e3 for line in lines if line.startswith(("VmRSS", "RssFile"))}


def peak() -> float:
    """Return the most memory that this process has held, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
