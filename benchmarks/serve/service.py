"""A service in a process of its own, and images that no service has seen."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import PIL.Image

from aeflow.runtime.machine import resident_mb


@dataclass
class Running:
    """A service that runs."""

    process: subprocess.Popen[str]
    address: str

    def resident(self) -> float:
        """Return the memory of the process in MB."""
        return resident_mb(self.process.pid)


@contextmanager
def serving(run: Path, folder: Path) -> Iterator[Running]:
    """Run a service on a free port until the context ends."""
    command = [sys.executable, "-m", "aeflow", "serve", str(run), "--data", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            if found is None:
                raise RuntimeError("the service has not started")
            while httpx.get(f"{found.group()}/health", timeout=60).status_code != 200:
                time.sleep(0.1)
            yield Running(process, found.group())
        finally:
            process.terminate()


def other(content: bytes, number: int) -> bytes:
    """Return an image with one pixel changed, as PNG: the service has not seen it."""
    pixels = np.array(PIL.Image.open(io.BytesIO(content)).convert("L"))
    pixels.flat[number % pixels.size] ^= 1
    pixels.flat[0] = number % 251
    pixels.flat[1] = number // 251 % 251
    made = io.BytesIO()
    PIL.Image.fromarray(pixels).save(made, "png")
    return made.getvalue()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return median and 95th percentile in ms."""
    return {
        "p50_ms": round(1e3 * float(np.median(seconds)), 2),
        "p95_ms": round(1e3 * float(np.quantile(seconds, 0.95)), 2),
    }
