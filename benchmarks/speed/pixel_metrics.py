"""Pixel AUROC, AUPRO and Dice of 1,000 maps of 256 x 256 pixels: seconds, memory, and distance from the exact values.

    python -m benchmarks.speed.pixel_metrics [--maps 1000] [--out benchmarks/results]

Maps and masks are drawn one at a time, several abnormal regions each; drawing them is not counted. The exact values are
those of scikit-learn and of a plain sorted AUPRO, on the first 20 maps.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from aeflow._types import Floats32
from aeflow.metrics.pixel import FPR_LIMIT, PixelMetrics
from aeflow.runtime.machine import machine, peak_mb
from benchmarks.common import write_results
from benchmarks.options import Parser

COMPARED = 20
Image = tuple[Floats32, NDArray[np.bool_]]  # scores and mask
SIDE = 256
SCALE, THRESHOLD = (3.9, 9.2), 6.6  # 90, 99.9 and 99 % of the normal pixels below, as a model's own calibration has it


def drawn(n: int, side: int = SIDE) -> Iterator[Image]:
    """Yield score maps (side, side) float32 and masks with up to six discs, brighter on average."""
    y, x = np.mgrid[:side, :side]
    for number in range(n):
        generator = np.random.default_rng(number)
        mask = np.zeros((side, side), bool)
        for _ in range(generator.integers(1, 7)):
            row, column, radius = *generator.uniform(0, side, 2), generator.uniform(2, side / 8)
            mask |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
        scores = generator.gamma(2.0, 1.0, (side, side)) + generator.uniform(0.5, 4.0) * mask
        yield scores.astype(np.float32), mask


def exact(images: list[Image]) -> dict[str, float]:
    """Return AUROC by scikit-learn, and AUPRO by its definition: every pixel's score is a threshold."""
    scores, truth, shares, regions = [], [], [], 0
    for score_map, mask in images:
        labelled, number = ndimage.label(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(labelled.ravel())
        scores.append(score_map.ravel())
        truth.append(mask.ravel())
        shares.append(np.where(mask, 1 / sizes[labelled], 0.0).ravel())
        regions += number
    flat, abnormal, share = np.concatenate(scores), np.concatenate(truth), np.concatenate(shares)
    order = np.argsort(-flat, kind="stable")
    last = np.append(np.flatnonzero(np.diff(flat[order])), len(flat) - 1)  # pixels of one score are called together
    fpr = np.insert(np.cumsum(~abnormal[order])[last] / (~abnormal).sum(), 0, 0.0)
    pro = np.insert(np.cumsum(share[order])[last] / regions, 0, 0.0)
    within = fpr < FPR_LIMIT
    x = np.append(fpr[within], FPR_LIMIT)
    y = np.append(pro[within], np.interp(FPR_LIMIT, fpr, pro))
    return {"auroc": float(roc_auc_score(abnormal, flat)), "aupro": float(np.trapezoid(y, x) / FPR_LIMIT)}


def measure(n: int, side: int = SIDE) -> dict[str, Any]:
    """Return seconds, peak memory of the process, and distances from the exact values."""
    metrics, seconds = PixelMetrics(SCALE, THRESHOLD), 0.0
    for number, (score_map, mask) in enumerate(drawn(n, side)):
        tic = time.perf_counter()
        metrics.update(score_map, mask, patient=str(number // 2))
        seconds += time.perf_counter() - tic
    tic = time.perf_counter()
    metrics.result()
    seconds += time.perf_counter() - tic
    peak = peak_mb(os.getpid())
    few = list(drawn(min(n, COMPARED), side))
    again = PixelMetrics(SCALE, THRESHOLD)
    for number, image in enumerate(few):
        again.update(*image, patient=str(number))
    found, true = again.result(), exact(few)
    assert found is not None
    return {
        "maps": n,
        "side": side,
        "seconds": round(seconds, 2),
        "peak_mb": None if peak is None else round(peak),
        "off_from_exact": {name: abs(found[name]["value"] - value) for name, value in true.items()},
        "floor": {"seconds": 10, "peak_mb": 500},
        "aim": {"seconds": 3},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = Parser("speed.pixel_metrics", __doc__)
    parser.add_argument("--maps", type=int, default=1000)
    parser.share("--out")
    options = parser.parse_args(arguments)
    result = {**measure(options.maps), "machine": machine()}
    write_results(options.out / "pixel_speed.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
