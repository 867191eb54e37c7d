"""Facts of the machine that a timing depends on: hardware, libraries, their threads; and the memory in use."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aeflow.runtime.threads import cores

LIBRARIES = ("aeflow", "torch", "openvino", "onnxruntime", "numpy", "pillow")
# Beginnings of the variables that set threads, their places, the allocator, and which arithmetic is used.
VARIABLES = ("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "MALLOC_", "LD_PRELOAD", "ONEDNN_", "TORCH_", "CUDA_")


def machine() -> dict[str, Any]:
    """Return CPU, cores and their load, memory, GPU, versions, and thread settings, without names or paths."""
    import torch  # not above: memory is measured in processes that do without its 400 MB

    gpu = torch.cuda.is_available()
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2),  # mean over the last minute
        "ram_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "threads": {"torch": torch.get_num_threads(), "between operations": torch.get_num_interop_threads()},
        "environment": {k: _plain(v) for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)},
    }


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def family(pid: int) -> list[int]:
    """Return a process and all below it that are alive; the process alone if there is no /proc."""
    below: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():  # a child is listed with the thread that started it
            below += map(int, (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        pass
    return [pid, *(process for child in below for process in family(child))]


def peak_mb(pid: int) -> float | None:
    """Return the sum of the peak memory of a process and each below it, in MiB; None if there is no /proc.

    Pages that several share are counted for each, and the peaks need not be at the same time: an upper bound.
    """
    found = [_kilobytes(Path(f"/proc/{process}/status"), "VmHWM:") for process in family(pid)]
    return sum(found) / 1024 if any(found) else None


def resident_mb(pid: int) -> float:
    """Return the memory that a process and all below it hold now, in MiB, with shared pages counted once (Linux)."""
    return sum(_kilobytes(Path(f"/proc/{process}/smaps_rollup"), "Pss:") for process in family(pid)) / 1024


def own_peak_mb() -> float:
    """Return the most memory that this process held since its program began, in MiB (Linux).

    ``getrusage`` would tell that of the process which started it, if it was larger.
    """
    return _kilobytes(Path("/proc/self/status"), "VmHWM:") / 1024


def _kilobytes(path: Path, field: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _plain(value: str) -> str:
    return value if "/" not in value else "a path"
