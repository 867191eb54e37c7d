"""Decoding in worker processes that may die: a hostile file costs its own refusal, never the run.

A worker is a fresh interpreter that knows the readers and nothing else: no torch, no threads, and not the caller's
script, which may lack ``if __name__ == "__main__"``. Each has a pipe and a thread of its own here, so one that dies in
the middle of anything leaves no lock behind. A file is blamed for a death, or for too much memory, only if it was the
first that a worker read: earlier ones may have left the memory full or damaged.

The memory limit, and that a busy worker dies with its parent, are for Linux; elsewhere a worker ends after its task.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import pickle
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from aeflow.errors import AeflowError
from aeflow.imageio.errors import FileError, ImageError, ImageLimitError
from aeflow.imageio.file_costs import FileCosts
from aeflow.imageio.limits import LIMITS, Limits

P = ParamSpec("P")
T = TypeVar("T")
Task = tuple["Future[Any]", bytes, Path]
Answer = tuple[Literal["done", "refused", "broken"], Any]  # broken: the worker is of no use any more

WORKERS = 2
_shared_workers = WORKERS
START_SECONDS = 60.0  # until a worker has loaded the readers; a busy machine may take longer, and a note says so
REMEDY_EXPORT_IMAGE = "export it again, best as a 16-bit grey PNG"
# Loads the readers first: neither the time nor the memory for that counts against the first file.
WORKER_SCRIPT = (
    "import sys; sys.path[:] = sys.argv[3:]; import aeflow.imageio.reader; "
    "from aeflow.imageio.decoder_pool import serve; serve(*map(int, sys.argv[1:3]))"
)
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt(3)


class Decoders:
    """Worker processes that read files within ``limits``.

    A context manager: its end ends the workers and cancels the tasks that wait.
    """

    def __init__(self, limits: Limits = LIMITS, workers: int = WORKERS) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._costs = FileCosts(limits)
        self._workers = [_Worker(limits) for _ in range(workers)]
        self._threads = [threading.Thread(target=self._run, args=(w,), daemon=True) for w in self._workers]
        for thread in self._threads:
            thread.start()

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

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
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
        """Start a process, send it the limits and wait until it answers; AeflowError if it cannot start, or dies."""
        self.fresh = True
        self.connection, theirs = Pipe()
        fd, nowhere = theirs.fileno(), subprocess.DEVNULL
        command = [sys.executable, "-c", WORKER_SCRIPT, str(fd), str(os.getpid()), *map(str, sys.path)]
        try:
            with theirs:
                self.process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, pass_fds=[fd])
            self.connection.send(self.limits)
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
