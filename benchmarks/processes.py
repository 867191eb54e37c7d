"""Programs run as their users start them, with their time and memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from aeflow.runtime.machine import VARIABLES, resident_mb

KEPT_VARIABLES = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}  # without these some processors compute nonsense
# Seconds between two looks at the memory. Each takes some 0.1 s of a core, as it reads all pages of a process, so that
# only the first seconds are watched closely: what runs longer holds its memory for longer.
WATCHED_AT_FIRST, WATCHED_EVERY, AT_FIRST = 0.25, 2.0, 5.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process that ended well."""

    seconds: float
    peak_mb: float
    output: str


def run_process(command: Sequence[object], **variables: str) -> Process:
    """Run a program without this shell's settings of threads and memory, and watch its memory.

    Memory is the sum over the process and all below it, shared pages counted once. Raises SystemExit with the
    program's messages if it fails.
    """
    inherited = {k: v for k, v in os.environ.items() if k in KEPT_VARIABLES or not k.startswith(VARIABLES)}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        tic, peak, ended = time.perf_counter(), [0.0], threading.Event()
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err, env=inherited | variables)

        def watch() -> None:
            while not ended.wait(WATCHED_AT_FIRST if time.perf_counter() - tic < AT_FIRST else WATCHED_EVERY):
                peak.append(resident_mb(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        process.wait()  # with a time limit it would look only every 50 ms
        seconds = time.perf_counter() - tic
        ended.set()
        watcher.join()
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise SystemExit(f"{command[:4]} ended with {process.returncode}:\n{err.read()[-4000:]}")
        return Process(seconds, max(peak), out.read())
