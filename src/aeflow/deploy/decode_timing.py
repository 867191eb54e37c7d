"""Timing of decoding and preprocessing, in the worker process that does them."""

from __future__ import annotations

import time
from pathlib import Path

from aeflow.data.preprocess import preprocess
from aeflow.imageio.image import Slice
from aeflow.imageio.reader import read_image


def timed(path: Path, size: int, at: Slice | None = None) -> tuple[float, float]:
    """Return the seconds to decode a file, or a slice of it, and to preprocess it; ImageError if it cannot be read."""
    started = time.perf_counter()
    image = read_image(path, at=at)
    decoded = time.perf_counter()
    preprocess(image, size)
    return decoded - started, time.perf_counter() - decoded
