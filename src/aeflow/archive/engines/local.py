"""Engine of processes on this machine; one that is killed costs its part's time, and an image that kills is found.

A part that has killed ``TRIES`` workers is halved until one file is left that kills as often by itself: it is refused,
and all others have their scores.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aeflow.archive.engines.base import Engine, Opens
from aeflow.archive.engines.worker import Share, WorkerProcess, unpacked
from aeflow.archive.item import Item
from aeflow.archive.part_scorer import UNCHANGED
from aeflow.archive.plan import Part
from aeflow.errors import AeflowError, SettingsError
from aeflow.imageio.errors import FileError
from aeflow.runtime.threads import cores

if TYPE_CHECKING:
    import pyarrow as pa

TRIES = 3  # workers that a part, and then a single file, may kill
STARTS = 3  # workers in a row that may die before they are ready
CORES_OF_ONE = 8  # that one worker makes use of; see ``backends.openvino.MAX_STREAMS``
DECODERS = 2  # of a worker that has the machine to itself
PIECES = 4  # for each worker, of one of the last parts
MIN_FILES = 32  # of such a piece: the first images of each are waited for


@dataclass(frozen=True, slots=True)
class Task:
    """Some files of a part, from ``start`` on; ``kills`` are the workers that died of it."""

    part: int
    start: int
    items: Sequence[Item]
    kills: int = 0
    suspect: bool = False  # comes from a part that has killed often enough

    def after_a_kill(self) -> list[Task]:
        """Return what is to be tried next: the same, or its halves."""
        kills = self.kills + 1
        if len(self.items) == 1 or (kills < TRIES and not self.suspect):
            return [replace(self, kills=kills)]
        half = len(self.items) // 2
        first = replace(self, items=self.items[:half], kills=0, suspect=True)
        return [first, replace(first, start=self.start + half, items=self.items[half:])]


class LocalEngine(Engine):
    """Engine of processes on this machine; ``threads`` of each, if it does not have its share of all cores."""

    def __init__(self, workers: int | None, address: str | None = None, threads: int | None = None) -> None:
        if address is not None:
            raise SettingsError("--address", "given for the engine local", "leave it out, or take --engine ray")
        self.workers = workers or max(1, cores() // CORES_OF_ONE)
        self._share: Share | None = None
        if self.workers > 1 or threads is not None:
            each = threads or max(1, cores() // self.workers)
            self._share = Share(each, min(DECODERS, each))
        self._processes: dict[Connection, WorkerProcess] = {}
        self._ready: set[Connection] = set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in list(self._processes):
            self._end(connection)

    def facts(self, opening: Opens) -> Any:
        """Return what a first worker says, which then waits for parts of the same opening."""
        for former in list(self._processes):  # of another one
            self._end(former)
        died = 0
        while True:
            connection = self._start(opening)
            found = self._answer(connection)
            if found is not None:
                self._ready.add(connection)
                return found[1]
            died += 1
            self._check_starts(died, self._end(connection))

    def tables(self, opening: Opens, parts: Iterable[Part]) -> Iterator[tuple[int, pa.Table]]:
        """Yield each part's table as soon as it is whole."""
        whole, waiting, busy = _Whole(), deque[Task](), dict[Connection, Task]()
        fresh = whole.awaited(shared(parts, self.workers))
        died = 0  # workers in a row, before they were ready

        def hand_out() -> bool:
            """Give every free worker a task; return if one is left."""
            while True:
                waiting.extend(itertools.islice(fresh, max(0, self.workers - len(waiting))))
                free = next((one for one in self._ready if one not in busy), None)
                if free is None or not waiting:
                    return bool(waiting)
                task = waiting.popleft()
                if self._send(free, task):
                    busy[free] = task
                else:
                    waiting.appendleft(task)

        while hand_out() or busy:
            while len(self._processes) < min(self.workers, len(busy) + len(waiting)):  # all at once, not one by one
                self._start(opening)
            heard = wait([one for one in self._processes if one in busy or one not in self._ready])
            for connection in (one for one in self._processes.copy() if one in heard):
                answer = self._answer(connection)
                if answer is None:
                    ended = self._end(connection)
                    if connection in busy:
                        waiting.extendleft(reversed(busy.pop(connection).after_a_kill()))
                    else:
                        died += 1
                        self._check_starts(died, ended)
                elif answer[0] == "ready":
                    died = 0
                    self._ready.add(connection)
                else:
                    task = busy.pop(connection)
                    hand_out()  # before the part is written: the worker need not wait for the disk
                    yield from whole.add(task, unpacked(answer[1]))

    def _start(self, opening: Opens) -> Connection:
        """Start a worker; it is ready once it says so."""
        process = WorkerProcess(opening, self._share)
        self._processes[process.connection] = process
        return process.connection

    def _end(self, connection: Connection) -> str:
        self._ready.discard(connection)
        return self._processes.pop(connection).stop()

    def _send(self, connection: Connection, task: Task) -> bool:
        """Send a task, or the refusal of a file that has killed often enough; return if it went off."""
        error = None
        if len(task.items) == 1 and task.kills >= TRIES:
            found = f"killed the process that scored it {task.kills} times"
            error = FileError(task.items[0].name, found, "look at the image; free memory if there was too little")
        try:
            connection.send((task.items, error))
        except OSError:  # it died while it was idle
            self._end(connection)
            return False
        return True

    def _answer(self, connection: Connection) -> tuple[str, Any] | None:
        """Return a worker's answer, None if it died; what failed in it is raised here."""
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            return None
        if kind == "failed":
            raise value
        return kind, value

    def _check_starts(self, died: int, how: str) -> None:
        """Raise AeflowError if too many workers in a row died before they were ready."""
        if died >= STARTS:
            remedy = "free memory, or take fewer --workers"
            raise AeflowError("workers", f"{died} in a row died while they opened the model ({how})", remedy)


class _Whole:
    """Tables of parts that came in pieces, put together."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}
        self._pieces: dict[int, dict[int, tuple[int, pa.Table]]] = defaultdict(dict)

    def awaited(self, parts: Iterable[tuple[Part, int]]) -> Iterator[Task]:
        """Yield the tasks of each part, of so many files, which are then waited for."""
        for part, files in parts:
            self._files[part.number] = len(part.items)
            for start in range(0, len(part.items), files):
                yield Task(part.number, start, part.items[start : start + files])

    def add(self, task: Task, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Add the table of some files of a part; yield the part's if it is whole."""
        pieces = self._pieces[task.part]
        pieces[task.start] = len(task.items), table
        if sum(files for files, _ in pieces.values()) == self._files[task.part]:
            del self._pieces[task.part], self._files[task.part]
            yield task.part, _joined([piece for _, (_, piece) in sorted(pieces.items())])


def shared(parts: Iterable[Part], workers: int) -> Iterator[tuple[Part, int]]:
    """Yield each part, and how many of its files make a task: all, but of the last parts fewer for several workers.

    So none of them scores a last part while the others have nothing to do.
    """
    last = deque[Part]()
    for part in parts:
        last.append(part)
        if len(last) > workers:
            whole = last.popleft()
            yield whole, len(whole.items)
    for part in last:
        files = len(part.items)
        yield part, files if workers == 1 else max(MIN_FILES, files // (PIECES * workers))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables one below the other, with what their metadata say of unchanged files."""
    import pyarrow as pa

    metadata = [table.schema.metadata or {} for table in tables]
    unchanged = [one for data in metadata for one in json.loads(data.get(UNCHANGED, b"[]"))]
    bare = [table.replace_schema_metadata(None) for table in tables]
    return pa.concat_tables(bare).combine_chunks().replace_schema_metadata({UNCHANGED: json.dumps(unchanged).encode()})
