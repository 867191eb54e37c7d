"""Trainings of several processes, started as torchrun starts them, each with its own output and exit code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

MODULE = [sys.executable, "-m", "aeflow"]
TOGETHER = 600.0  # seconds that a small training may take on a busy machine


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, negative for a signal, and what it printed."""

    code: int
    out: str
    err: str


@contextmanager
def started(
    number: int, *arguments: object, before: Callable[[], None] | None = None, **environment: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the processes of one command; those that are still there at the end of the context are killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen(
            [*MODULE, *map(str, arguments)],
            env={**shared, "WORLD_SIZE": str(number), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            preexec_fn=before,
            **pipes,
        )
        for rank in range(number)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[Ended]:
    """Wait for all processes, and fail if one hangs."""
    said = [process.communicate(timeout=TOGETHER) for process in processes]
    return [Ended(process.returncode, *both) for process, both in zip(processes, said, strict=True)]


def together(number: int, *arguments: object, ok: int = 0, **environment: str) -> list[Ended]:
    """Run a command in several processes to its end; all must end with the same exit code, without a traceback."""
    with started(number, *arguments, **environment) as processes:
        done = ended(processes)
    assert [one.code for one in done] == [ok] * number, done
    assert not any("Traceback" in one.err for one in done), done
    return done


def torchrun(number: int, *arguments: object) -> str:
    """Run a command as a user does, by torchrun; return its stdout."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    command = [*launcher, *MODULE[1:], *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOGETHER, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
