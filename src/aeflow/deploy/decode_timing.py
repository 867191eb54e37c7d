"""How long a file takes to become an image and a preprocessed one, where that is done: in a worker process."""

from __future__ import annotations

import time
from pathlib import Path

from aeflow.data.preprocess import preprocess
from aeflow.imageio.image import Slice
from aeflow.imageio.reader import read_image


def timed(path: Path, size: int, at: Slice | None = None) -> tuple[float, float]:
    """Seconds to decode a file, or one slice of it, and to preprocess it; ImageError where it cannot be read."""
    started = time.perf_counter()
    image = read_image(path, at=at)
    decoded = time.perf_counter()
    preprocess(image, size)
    return decoded - started, time.perf_counter() - decoded
