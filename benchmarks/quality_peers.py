"""anomalib's models on the same train normals and test images, run by its own Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out
from aeflow.metrics.pixel import PixelMetrics
from quality_methods import Method
from quality_run import Outcome, count
from speed import Ran, ran

HERE = Path(__file__).parent


def measure(method: Method, python: Path, data: Path, seed: int, work: Path) -> tuple[Outcome, Ran]:
    """Its scores, and pixel metrics of its maps; what the process took."""
    settings, test = method.settings_of(seed), read_records(data, "test")
    kept, _ = hold_out(of_label(read_records(data, "train"), 0), settings.held_out, seed)
    shutil.rmtree(work, ignore_errors=True)
    task = {
        "kind": method.name.removeprefix("anomalib "),
        "settings": method.settings,
        "seed": seed,
        "train": linked(work / "train", evenly(kept, method.settings.get("images", len(kept)))),
        "test": linked(work / "test", test),
        "out": str(work),
    }
    (work / "task.json").write_text(json.dumps(task))
    found = ran([python, HERE / "anomalib_quality.py", work / "task.json"])
    scores, maps = np.load(work / "scores.npy"), np.load(work / "maps.npy", mmap_mode="r")
    pixel = None
    if any(record.mask for record in test):
        # It has no held-out normals: the scale, which only decides how fine the bins are, comes from all maps.
        low, threshold, high = np.quantile(maps[:: max(1, len(maps) // 100)], (0.5, 0.99, 0.999))
        metrics = PixelMetrics((float(low), float(high)), float(threshold))
        for one, record in zip(maps, test, strict=True):
            count(metrics, one[None], [record])
        pixel = {"map": metrics.result()}
    return Outcome(scores, None, pixel, json.loads((work / "seconds.json").read_text())), found


def linked(folder: Path, records: Sequence[Record]) -> str:
    """A folder of links to images, whose names keep their order."""
    folder.mkdir(parents=True)
    for number, record in enumerate(records):
        (folder / f"{number:05d}{record.path.suffix}").symlink_to(record.path.resolve())
    return str(folder)
