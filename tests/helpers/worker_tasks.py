"""Tasks for workers, in a module of their own because a worker imports it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from aeflow.imageio.errors import ImageError
from aeflow.imageio.limits import Limits
from aeflow.imageio.reader import read_header, read_image

used: list[int] = []


def double(path: Path, number: int) -> int:
    used.append(number)
    return 2 * number


def crash(path: Path, how: str) -> None:
    if how == "SIGSEGV":
        ctypes.string_at(0)
    elif how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "hang":
        ctypes.PyDLL(None).sleep(60)  # in C and with the interpreter's lock, as a decoder that loops
    elif how == "memory":
        bytearray(2**30)
    elif how == "memory, wrapped":
        try:
            bytearray(2**30)
        except MemoryError as error:
            raise ImageError(path, "damaged (MemoryError)", "export it again") from error
    elif how == "nonsense":
        os.write(int(sys.argv[1]), b"\0\0\0\4junk")
    elif how == "refused":
        raise ImageError(path, "an empty file", "export the image again")
    elif how == "other":
        raise KeyError("PATIENT^NAME")
    elif how == "unpicklable":
        raise ImageError(path, "a result that cannot be sent", "") from KeyError(crash)


def crash_if_used(path: Path) -> str:
    if used:
        os._exit(1)
    return "fine in a fresh worker"


def unsendable(path: Path) -> object:
    return lambda: None


def keep(path: Path, size: int, kept: list[bytearray] = []) -> int:  # noqa: B006
    kept.append(bytearray(size))
    return len(kept)


def modules(path: Path) -> list[str]:
    return list(sys.modules)


def noise(path: Path) -> None:
    os.write(1, b"PATIENT^NAME")
    os.write(2, b"PATIENT^NAME")
    warnings.warn("PATIENT^NAME", stacklevel=1)


def whoami(path: Path, seconds: float = 0) -> tuple[int, str]:
    time.sleep(seconds)
    return os.getpid(), os.getcwd()


def attempt(path: Path, limits: Limits) -> tuple[ImageError | tuple[int, ...], float, int]:
    """Return how reading a file ends (shape or refusal), the seconds it took, and the process's peak bytes so far."""
    began = time.perf_counter()
    outcome: ImageError | tuple[int, ...]
    try:
        read_header(path, "axial", limits)
        pixels = read_image(path, limits).pixels
        assert pixels.dtype == np.float32
        assert pixels.ndim == 2 or pixels.shape[2:] == (3,)
        assert pixels.min() >= 0
        assert pixels.max() <= 1
        outcome = pixels.shape
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            raise
        outcome = error
    status = Path("/proc/self/status").read_text()
    return outcome, time.perf_counter() - began, 1024 * int(status.split("VmHWM:")[1].split()[0])
