"""Progress: told to a caller's listener, or shown on stderr, as a bar on a terminal and elsewhere a line now and then.

Each count has one listener; stdout stays as it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from aeflow.runtime.console import Terminal
from aeflow.runtime.terminal import print

MEANT = 5.0  # seconds after the first count from which a pace means anything: the first images pay for the start
LINE_EVERY = 10.0  # seconds between two lines where there is no terminal; what is over sooner says nothing


def columns() -> tuple[ProgressColumn, ...]:
    """Return the parts of a bar: where a terminal is narrow, the note behind them is cut off, and nothing else."""
    return (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=16),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=11)),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("[dim]{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    )


Listener = Callable[[int, int, str], None]  # of a caller's own: how much is done, of how much, and what it is

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_shown: list[str] = []  # descriptions of what is under way, the outer one first

console = Terminal(stderr=True)


class Tell(Protocol):
    """Interface of what is told of a count: how much is done, of how much, and a note."""

    def __call__(self, done: int, total: int, note: str | None) -> None:
        """Take the count as it is now."""


class Advance:
    """Count of what is done: ``advance()`` counts one more, ``advance.more(n)`` adds ``n`` to the total."""

    def __init__(self, total: int, tell: Tell) -> None:
        self._done, self._total, self._tell = 0, total, tell

    def __call__(self, n: int = 1, note: str | None = None) -> None:
        """Count ``n`` more as done, with a note, and tell it."""
        self._done += n
        self._tell(self._done, self._total, note)

    def more(self, n: int) -> None:
        """Add ``n`` to the total, if it was not known at the start; the next count tells it."""
        self._total += n


def paced(done: int, total: int, seconds: float) -> str:
    """Return how fast it goes, and how long it will take at that pace.

    >>> paced(1200, 100_000, 15.0), paced(3, 4, 60.0)
    ('80 per second, 21 min left', '0.05 per second, 20 s left')
    """
    rate, left = done / seconds, (total - done) * seconds / done
    pace = f"{rate:,.0f} per second" if rate >= 10 else f"{rate:.2g} per second"
    unit, size = next(((unit, size) for unit, size in (("h", 3600), ("min", 60)) if left >= 5 * size), ("s", 1))
    return f"{pace}, {left / size:,.0f} {unit} left"


class Bar:
    """Progress as a bar of rich's."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def __call__(self, done: int, total: int, note: str | None) -> None:
        """Show the count, and a note after the times."""
        self._progress.update(self._task, completed=done, total=total)
        if note is not None:
            self._progress.update(self._task, note=note)


class Lines:
    """Progress as lines on stderr, one in so many seconds."""

    def __init__(self, description: str, every: float) -> None:
        self._description, self._every = description, every
        self._said = time.monotonic()
        self._began, self._first = self._said, 0  # when the first count came, and what it was

    def __call__(self, done: int, total: int, note: str | None) -> None:
        """Print the count if it is time to; the note stands behind it."""
        now = time.monotonic()
        if not self._first:
            self._began, self._first = now, done
        if now - self._said >= self._every:
            self._said = now
            since, seconds = done - self._first, now - self._began
            pace = f" ({paced(since, total - self._first, seconds)})" if since and seconds >= MEANT else ""
            more = f", {note}" if note else ""
            print(f"{self._description}: {done:,} of {total:,}{pace}{more}", file=sys.stderr, flush=True)


def unheard(done: int, total: int, note: str | None) -> None:
    """Tell nobody."""


def heard_by(listener: Listener | None, what: str, total: int) -> Advance:
    """Return a count that a caller's listener hears, at once with nothing done; what it raises ends the work."""
    if listener is None:
        return Advance(total, unheard)
    listener(0, total, what)
    return Advance(total, lambda done, total, note: listener(done, total, what))


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Let a listener hear what would else be shown as bars within this context; None: they are shown."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def bar(description: str, total: int) -> Iterator[Advance]:
    """Show progress, or tell it to who is ``listening``; nothing is shown or told within another one.

    ::

        with bar("Scoring", 100) as advance:
            advance(1, note="AUROC 0.9")
    """
    inner = bool(_shown)
    _shown.append(description)
    try:
        if inner:
            yield Advance(total, unheard)
            return
        if (listener := _listener.get()) is not None:
            yield heard_by(listener, description, total)
            return
        if not sys.stderr.isatty():
            yield Advance(total, Lines(description, LINE_EVERY))
            return
        # The bar takes over what is printed to the terminal that it stands in, never a file or a pipe.
        with Progress(*columns(), console=console, expand=True, redirect_stdout=sys.stdout.isatty()) as progress:
            yield Advance(total, Bar(progress, progress.add_task(description, total=total, note="")))
    finally:
        _shown.pop()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say what is done where there is nothing to count: beside a spinner on a terminal, elsewhere as a note."""
    if sys.stderr.isatty():
        with console.status(what):
            yield
    else:
        print(f"note: {what[0].lower()}{what[1:]}", file=sys.stderr, flush=True)
        yield
