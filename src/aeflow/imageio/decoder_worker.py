"""A worker process that decodes files within limits: what it does with each call, and what protects the others from it.

The memory limit, and that a busy worker dies with its parent, are for Linux; elsewhere a worker ends after its task.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.limits import Limits

Answer = tuple[Literal["done", "refused", "broken"], Any]  # broken: the worker is of no use any more

REMEDY_EXPORT_IMAGE = "export it again, best as a 16-bit grey PNG"
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt(3)


def serve(fd: int, parent: int) -> None:
    """Run a worker: answer calls from the pipe ``fd`` until it closes, and die with ``parent``."""
    connection = Connection(fd)
    try:
        limits: Limits = connection.recv()
        _protect(limits, parent)
        connection.send(None)
        while True:
            connection.send_bytes(_answer(connection.recv_bytes(), limits))
    except (EOFError, OSError):  # the parent is gone
        return


def _protect(limits: Limits, parent: int) -> None:
    """Set the limits of this process, and let it die with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a patient's image
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        sys.exit()
    if hasattr(libc, "gnu_get_libc_version"):  # the blocks of one image serve the next: half the time of a small one
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    bound = used + limits.max_memory
    resource.setrlimit(resource.RLIMIT_AS, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def _answer(call: bytes, limits: Limits) -> bytes:
    """Return the pickled answer to a pickled call; whatever its function raises becomes an ImageError."""
    path: object = "file"
    try:
        folder, function, path, args, kwargs = pickle.loads(call)
        if folder is not None:
            os.chdir(folder)
        answer: Answer = "done", function(path, *args, **kwargs)
        return pickle.dumps(answer, protocol=5)
    except Exception as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            found = f"needs more than {limits.max_memory} bytes of memory"
            answer = "broken", ImageLimitError(path, found, "shrink or split it, or raise max_memory")
        elif isinstance(error, ImageError):
            answer = "refused", error
        else:  # its text may hold a patient's name
            answer = "refused", ImageError(path, f"its reader failed ({type(error).__name__})", REMEDY_EXPORT_IMAGE)
        return pickle.dumps(answer)
