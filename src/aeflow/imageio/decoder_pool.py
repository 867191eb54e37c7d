"""Decoding in worker processes that may die: a hostile file costs its own refusal, never the run.

A worker is a fresh interpreter that knows the readers and nothing else: no torch, no threads, and not the caller's
script, which may lack ``if __name__ == "__main__"``. Each has a pipe and a thread of its own here, so one that dies in
the middle of anything leaves no lock behind. A file is blamed for a death, or for too much memory, only if it was the
first that a worker read: earlier ones may have left the memory full or damaged.

What a worker does is in ``decoder_worker``.
"""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from aeflow.errors import AeflowError
from aeflow.imageio.decoder_worker import REMEDY_EXPORT_IMAGE, Answer
from aeflow.imageio.errors import FileError, ImageLimitError
from aeflow.imageio.file_costs import FileCosts
from aeflow.imageio.limits import LIMITS, Limits

P = ParamSpec("P")
T = TypeVar("T")
Task = tuple["Future[Any]", bytes, Path]
Launched = tuple["subprocess.Popen[bytes]", Connection]  # a process that loads the readers, and the pipe to it

WORKERS = 2
_shared_workers = WORKERS
START_SECONDS = 60.0  # until a worker has loaded the readers; a busy machine may take longer, and a note says so
# Loads the readers first: neither the time nor the memory for that counts against the first file.
WORKER_SCRIPT = (
    "import sys; sys.path[:] = sys.argv[3:]; import aeflow.imageio.reader, aeflow.imageio.dicom.reader; "
    "from aeflow.imageio.decoder_worker import serve; serve(*map(int, sys.argv[1:3]))"
)


class Decoders:
    """Worker processes that read files within ``limits``.

    A context manager: its end ends the workers and cancels the tasks that wait.
    """

    def __init__(self, limits: Limits = LIMITS, workers: int = WORKERS) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._costs = FileCosts(limits)
        self._limits = limits
        self._ahead: deque[Launched] = deque()
        self._workers = [_Worker(limits, self._ahead) for _ in range(workers)]
        self._threads = [threading.Thread(target=self._run, args=(w,), daemon=True) for w in self._workers]
        for thread in self._threads:
            thread.start()

    def start(self) -> None:
        """Start a process for the first file to come, which loads the readers while the caller opens a model.

        Nothing is said of one that cannot start: the file's own will say it.
        """
        with suppress(OSError):
            self._ahead.append(_launched(self._limits))

    def submit(
        self, function: Callable[Concatenate[Path, P], T], path: Path, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Run ``function(path, *args)`` in a worker; the future has its result, or an ImageError that names ``path``.

        ImageLimitError if it exceeds ``max_seconds`` or ``max_memory``. ``function`` must be importable.
        """
        if self._closed.is_set():
            raise RuntimeError("these decoders are closed")
        folder = None if path.is_absolute() else os.getcwd()  # the worker's own may be older
        future: Future[T] = Future()
        self._tasks.put((future, pickle.dumps((folder, function, path, args, kwargs)), path))
        return future

    def close(self) -> None:
        """End the workers at once; tasks that have not begun are cancelled."""
        self._closed.set()
        for _ in self._threads:
            self._tasks.put(None)
        for worker, thread in zip(self._workers, self._threads, strict=True):
            while thread.is_alive():  # it may be about to start a process
                worker.kill()
                thread.join(0.05)
        for process, connection in self._ahead:  # no file came
            connection.close()
            process.kill()
            process.wait()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self, worker: _Worker) -> None:
        """Pass tasks to one worker until None comes."""
        while (task := self._tasks.get()) is not None:
            future, call, path = task
            if self._closed.is_set():
                future.cancel()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._call(worker, call, path))
                except Exception as error:  # handed to whoever waits for it
                    future.set_exception(error)
            del task, future, call  # or the last image stays in memory
        worker.stop()

    def _call(self, worker: _Worker, call: bytes, path: Path) -> Any:
        """Return the function's result; raises ImageError, at once for a file that was refused as a whole before."""
        if refusal := self._costs.refusal(path):
            raise refusal
        ended: Exception | None = None
        try:
            return worker.call(call, path)
        except Exception as error:
            ended = error
            raise
        finally:
            self._costs.add(path, hash(call), worker.seconds, ended)


@functools.cache
def decoders() -> Decoders:
    """Return the decoders that all streams of this process share, started when first needed, ended when it ends."""
    shared = Decoders(workers=_shared_workers)
    atexit.register(shared.close)
    return shared


def set_shared_workers(workers: int) -> None:
    """Set how many processes ``decoders`` has, before it is first asked: fewer where several processes score."""
    global _shared_workers
    _shared_workers = workers


os.register_at_fork(after_in_child=decoders.cache_clear)  # threads do not survive a fork


class _Worker:
    """One process at a time, and a new one for the next task after it died or was ended."""

    def __init__(self, limits: Limits, ahead: deque[Launched]) -> None:
        self.limits, self.ahead = limits, ahead
        self.process: subprocess.Popen[bytes] | None = None
        self.fresh = True  # has not read any file yet
        self.closed = False
        self.seconds = 0.0  # that the last call took, without the start of a process

    def call(self, call: bytes, path: Path) -> Any:
        """Return the function's result; raises ImageError."""
        kind, value = self._ask(call, path)
        if kind == "broken" and not self.fresh and not self.closed:
            self.stop()
            kind, value = self._ask(call, path)
        if kind == "broken":
            self.stop()
        self.fresh = False
        if kind == "done":
            return value
        raise value

    def _ask(self, call: bytes, path: Path) -> Answer:
        """Send a call to the process, started if need be, and return its answer."""
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self._start()
        began = time.monotonic()
        try:
            return self._answered(call, path)
        finally:
            self.seconds = time.monotonic() - began

    def _answered(self, call: bytes, path: Path) -> Answer:
        """Send a call to the running process and return its answer."""
        try:
            self.connection.send_bytes(call)
            if self.connection.poll(self.limits.max_seconds):
                answer: Answer = pickle.loads(self.connection.recv_bytes())
                return answer
        except (EOFError, OSError):
            return "broken", FileError(path, f"its decoder died ({self.stop()})", REMEDY_EXPORT_IMAGE)
        except Exception as error:  # its memory may be damaged
            return "broken", FileError(path, f"its decoder sent nonsense ({type(error).__name__})", REMEDY_EXPORT_IMAGE)
        self.stop()
        found = f"took longer than {self.limits.max_seconds:g} s"
        return "refused", ImageLimitError(path, found, "simplify or split it, or raise max_seconds")

    def _start(self) -> None:
        """Take or launch a process and wait until it answers; AeflowError if it cannot start, or dies."""
        self.fresh = True
        try:
            self.process, self.connection = self._started_ahead() or _launched(self.limits)
            if not self.connection.poll(START_SECONDS):
                from aeflow.runtime.terminal import print  # a worker, which has this module too, says nothing

                found = f"has not started within {START_SECONDS:g} s: the machine is busy"
                print(f"note: decoding: a worker process {found}; waiting for it", file=sys.stderr)
            self.connection.recv()  # waits, and ends with the process
            return
        except (EOFError, OSError) as error:
            reason = type(error).__name__
        reason = self.stop() or reason
        raise AeflowError("decoding", f"no worker process started ({reason})", "free memory, or install aeflow again")

    def _started_ahead(self) -> Launched | None:
        """Return a process that was started ahead and is alive, if there is one."""
        try:
            process, connection = self.ahead.popleft()
        except IndexError:
            return None
        if process.poll() is None:
            return process, connection
        connection.close()
        return None

    def kill(self) -> None:
        """End the process for good, from any thread."""
        self.closed = True
        if (process := self.process) is not None:
            process.kill()

    def stop(self) -> str:
        """End the process, if there is one, and return how it ended."""
        if self.process is None:
            return ""
        self.connection.close()
        try:
            code = self.process.wait(0.1)  # a process that died needs a moment to report how
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _launched(limits: Limits) -> Launched:
    """Launch a process, which answers once it has loaded the readers, with its limits; OSError if it cannot start."""
    ours, theirs = Pipe()
    fd, nowhere = theirs.fileno(), subprocess.DEVNULL
    command = [sys.executable, "-c", WORKER_SCRIPT, str(fd), str(os.getpid()), *map(str, sys.path)]
    with theirs:
        process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, pass_fds=[fd])
    with suppress(BrokenPipeError):  # it has ended already, and so its answer will not come
        ours.send(limits)
    return process, ours
