"""Settings of the process, made before the first tensor, to be fast and repeatable on a CPU."""

from __future__ import annotations

import ctypes
import functools
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from aeflow.errors import SettingsError, count
from aeflow.runtime import ranks
from aeflow.runtime.extras import extra

if TYPE_CHECKING:
    import torch

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
DEVICES = ("auto", "cpu", "cuda")
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA's; that of Linux on Windows; AMD's


@functools.cache
def prepare() -> None:
    """Keep large blocks inside the process instead of returning each to the system; does nothing off glibc.

    For torch: every activation of a network is a block that glibc maps and unmaps again, millions of page faults, and
    encoders run at a third of their speed. A graph has its memory once and for all, and what its compilation took goes
    back to the system.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def may_have_gpu() -> bool:
    """Return if there is a GPU's driver, and torch: a cheap check that avoids importing torch (two seconds)."""
    return find_spec("torch") is not None and any(Path(driver).exists() for driver in GPU_DRIVERS)


def check_device(name: str) -> None:
    """Raise SettingsError for a name that no device has; whether it is there is not asked."""
    if name not in DEVICES:
        raise SettingsError("device", f"{name!r} is not supported", "choose auto, cpu or cuda")


def check_there(name: str) -> None:
    """Raise SettingsError, before torch takes its seconds to import, for a device that cannot be there."""
    check_device(name)
    if name == "cuda" and not _may_have_cuda():
        raise _no_cuda()


def _may_have_cuda() -> bool:
    """Return if torch could use CUDA: a driver is there, as a file or as the library that torch opens.

    Only on Linux is it known where these would be.
    """
    if not sys.platform.startswith("linux") or any(Path(driver).exists() for driver in GPU_DRIVERS):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _no_cuda() -> SettingsError:
    """Return the error for CUDA where there is none."""
    return SettingsError("device", "no CUDA device is available", "choose auto or cpu")


def pick_device(name: str) -> torch.device:
    """Return the named device; ``auto`` is CUDA if there is one, else the CPU.

    Of several processes on a machine each gets a GPU of its own. Raises SettingsError for a device that is not there.
    """
    check_device(name)
    with extra("train"):
        import torch  # scoring with a graph does without

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise _no_cuda()
    if name == "cpu" or ranks.size() == 1:
        return torch.device(name)
    if ranks.of_node() >= (gpus := torch.cuda.device_count()):
        found = f"more processes on a machine than its {count(gpus, 'GPU')}"
        raise SettingsError("device", found, "start one for each GPU, or choose cpu")
    torch.cuda.set_device(ranks.of_node())
    return torch.device("cuda", ranks.of_node())
