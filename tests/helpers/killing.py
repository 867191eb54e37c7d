"""Commands killed at a chosen event on the file system, or on a full disk; each in a process forked from a warm one.

An event is what changes a file or a folder below ``under``, a wait for the disk, or a statement of SQLite. As a program
it reads one order a line, and answers each with a line.
"""

from __future__ import annotations

import importlib
import json
import os
import pty
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
NEVER = 0
COMMAND = "aeflow.cli:main"


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, the events that it came to, and what it printed."""

    code: int
    events: int
    out: str
    err: str


class Commands:
    """A warm process that runs commands."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self,
        *arguments: object,
        under: Path,
        at: int = NEVER,
        limit: int = -1,
        program: str = COMMAND,
        typed: str = "",
        variables: Mapping[str, str] | None = None,
        terminal: bool = False,
    ) -> Ended:
        """Run a command; SIGKILL comes before event ``at``, from 1, under a folder; no file exceeds ``limit`` bytes.

        ``program`` is another function of a module, which takes the arguments as a list; ``typed`` is what stdin holds.
        With ``terminal`` its stderr is one.
        """
        order = {
            "arguments": [*map(str, arguments)],
            "under": str(under),
            "at": at,
            "limit": limit,
            "program": program,
            "typed": typed,
            "variables": {**(variables or {})},
            "terminal": terminal,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return Ended(**json.loads(self._process.stdout.readline()))


@contextmanager
def commands() -> Iterator[Commands]:
    """Start the warm process; it ends with the context."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.killing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield Commands(process)
    finally:
        process.communicate()


def _serve() -> None:
    import aeflow.artifacts.run
    import aeflow.audit.report
    import aeflow.deploy.export
    import aeflow.drift.report
    import aeflow.evaluation.evaluate
    import aeflow.reporting.score_picture
    import aeflow.results.dicom
    import aeflow.results.nifti
    import aeflow.training.recalibrate
    import aeflow.training.train
    import aeflow.tuning.tune  # noqa: F401
    import helpers.steps  # noqa: F401
    from aeflow.runtime.threads import set_share

    set_share(1)  # one process decodes: each takes a second to start, and is started for each command
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            counted = Path(folder, "events")
            counted.write_bytes(bytes(8))
            reading, out = os.pipe()  # a file would have the limit of all files
            hearing, err = pty.openpty() if order["terminal"] else os.pipe()
            child = os.fork()
            if child == 0:
                _command(order, out, err, counted)
            os.close(out)
            os.close(err)
            with ThreadPoolExecutor() as both:
                shown, said = both.map(_all_of, (reading, hearing))
            _, status = os.waitpid(child, 0)
            events = int.from_bytes(counted.read_bytes(), "little")
            answer = {"code": os.waitstatus_to_exitcode(status), "events": events, "out": shown, "err": said}
        print(json.dumps(answer), flush=True)


def _all_of(descriptor: int) -> str:
    """Return what comes until the other side is closed."""
    found = b""
    with suppress(OSError):  # of a terminal that is closed
        while piece := os.read(descriptor, 2**16):
            found += piece
    os.close(descriptor)
    return found.decode(errors="backslashreplace")


def _command(order: dict[str, object], out: int, err: int, counted: Path) -> None:
    """Run one command in this process, and end it."""
    module, _, function = str(order["program"]).partition(":")
    main = getattr(importlib.import_module(module), function)
    os.environ.update(order["variables"])  # type: ignore[call-overload]
    typed = os.memfd_create("typed")
    os.write(typed, str(order["typed"]).encode())
    os.lseek(typed, 0, os.SEEK_SET)
    sys.stdin = os.fdopen(typed)
    os.dup2(err, 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  # the former one knows that it is no pipe
    os.dup2(out, 1)
    events = os.open(counted, os.O_WRONLY)
    under, count, sync, one = str(order["under"]), 0, os.fsync, threading.RLock()

    def event() -> None:
        nonlocal count
        with one:
            count += 1
            os.pwrite(events, count.to_bytes(8, "little"), 0)
            if count == order["at"]:
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(name: str, details: tuple[object, ...]) -> None:
        if name == "open" and not (isinstance(details[2], int) and details[2] & WRITING):
            return
        if name not in ("open", *CHANGES) or isinstance(details[0], int):
            return
        paths = [os.path.abspath(os.fsdecode(path)) for path in details if isinstance(path, str | bytes | os.PathLike)]
        in_open_folder = name != "open" and details[-1] != -1  # as rmtree deletes
        if in_open_folder or any(path.startswith(under) for path in paths):
            event()

    def fsync(file: int) -> None:
        event()
        sync(file)

    def connect(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = opened(*arguments, **options)  # type: ignore[arg-type]
        connection.set_trace_callback(lambda statement: event())
        return connection

    opened = sqlite3.connect
    sqlite3.connect = sqlite3.dbapi2.connect = connect  # type: ignore[assignment]
    os.fsync = fsync
    sys.addaudithook(watch)
    if (limit := int(str(order["limit"]))) >= 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    code = 1
    try:
        main(list(order["arguments"]))  # type: ignore[call-overload]
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # nothing of the warm process may be undone here
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
