"""Process that scores parts: a fresh interpreter, a pipe to whoever started it, and an end with it.

It unpickles what that process sends, and is unpickled from by that process alone.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any

from aeflow.archive.engines.base import Opens
from aeflow.imageio.decoder_pool import set_shared_workers
from aeflow.runtime.threads import set_share

if TYPE_CHECKING:
    import pyarrow as pa

SCRIPT = (
    "import sys; sys.path[:] = sys.argv[3:]; from aeflow.archive.engines.worker import serve; "
    "serve(*map(int, sys.argv[1:3]))"
)


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several workers takes of a machine's cores."""

    threads: int  # that compute at once
    decoders: int  # processes that decode


class WorkerProcess:
    """A process that was started, and the pipe to it."""

    def __init__(self, opening: Opens, share: Share | None) -> None:
        self.connection, theirs = Pipe()
        lifeline, self._lifeline = os.pipe()
        fd, nowhere = theirs.fileno(), subprocess.DEVNULL
        command = [sys.executable, "-c", SCRIPT, str(fd), str(lifeline), *map(str, sys.path)]
        try:
            with theirs:
                self.process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, pass_fds=[fd, lifeline])
        finally:
            os.close(lifeline)
        self.connection.send((opening, share))

    def stop(self) -> str:
        """End the process, if it has not ended, and return how it did."""
        self.connection.close()
        os.close(self._lifeline)
        try:
            code = self.process.wait(0.1)  # one that died needs a moment to report how
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return f"exit code {code}" if code >= 0 else f"signal {-code}"


def serve(fd: int, lifeline: int) -> None:
    """Run a worker: open, then answer requests until the pipe closes; end at once with whoever holds the lifeline."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    connection = Connection(fd)
    try:
        try:
            opening, share = connection.recv()
            if share is not None:
                set_share(share.threads)
                set_shared_workers(share.decoders)
            scores = opening.open()
        except Exception as error:  # raised again by the driver
            connection.send(("failed", _sendable(error)))
            return
        connection.send(("ready", scores.facts))
        while True:
            items, refusal = connection.recv()  # with a refusal the one file is not scored
            try:
                found = scores(items) if refusal is None else scores.refused(items[0], refusal)
                answer: tuple[str, Any] = "done", packed(found)
            except Exception as failure:  # likewise
                answer = "failed", _sendable(failure)
            connection.send(answer)
    except (EOFError, OSError):  # the driver is gone
        return


def packed(table: pa.Table) -> bytes:
    """Return a table as bytes, in Arrow's own form."""
    import pyarrow as pa

    to = pa.BufferOutputStream()
    with pa.ipc.new_stream(to, table.schema) as stream:
        stream.write_table(table)
    return bytes(to.getvalue())


def unpacked(content: bytes) -> pa.Table:
    """Return the table of ``packed``; no code is in it."""
    import pyarrow as pa

    with pa.ipc.open_stream(content) as stream:
        return stream.read_all()


def _end_with(lifeline: int) -> None:
    """Wait until nobody holds the other end, then end the process in the middle of anything."""
    os.read(lifeline, 1)
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """Return an error that can be sent; one that cannot gives way to what it said."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
