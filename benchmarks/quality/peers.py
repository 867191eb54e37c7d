"""anomalib's models on the same train normals and test images, run by its own Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from aeflow.data.records import of_label, read_records
from aeflow.data.splits import evenly, hold_out
from aeflow.metrics.pixel import PixelMetrics
from benchmarks.inputs import link_images
from benchmarks.processes import Process, run_process
from benchmarks.quality.methods import Method
from benchmarks.quality.outcome import Outcome, count_pixels


def measure_peer(method: Method, python: Path, data: Path, seed: int, work: Path) -> tuple[Outcome, Process]:
    """Return scores and pixel metrics of a model of anomalib, and the process that made them."""
    settings, test = method.settings_of(seed), read_records(data, "test")
    kept, _ = hold_out(of_label(read_records(data, "train"), 0), settings.held_out, seed)
    normals = evenly(kept, method.settings.get("images", len(kept)))
    shutil.rmtree(work, ignore_errors=True)
    task = {
        "kind": method.name.removeprefix("anomalib "),
        "settings": method.settings,
        "seed": seed,
        "train": str(link_images(work / "train", [record.path for record in normals])),
        "test": str(link_images(work / "test", [record.path for record in test])),
        "out": str(work),
    }
    (work / "task.json").write_text(json.dumps(task))
    process = run_process([python, "-m", "benchmarks.quality.anomalib_scores", work / "task.json"])
    scores, maps = np.load(work / "scores.npy"), np.load(work / "maps.npy", mmap_mode="r")
    pixel = None
    if any(record.mask for record in test):
        # It has no held-out normals: the scale, which only decides how fine the bins are, comes from all maps.
        low, threshold, high = np.quantile(maps[:: max(1, len(maps) // 100)], (0.5, 0.99, 0.999))
        metrics = PixelMetrics((float(low), float(high)), float(threshold))
        for one, record in zip(maps, test, strict=True):
            count_pixels(metrics, one[None], [record])
        pixel = {"map": metrics.result()}
    return Outcome(scores, None, pixel, json.loads((work / "seconds.json").read_text())), process
