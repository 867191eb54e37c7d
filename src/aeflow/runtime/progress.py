"""Progress on stderr: a bar on a terminal, elsewhere a line now and then; stdout stays as it is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

from aeflow.runtime.terminal import Terminal, print

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


_shown: list[str] = []  # descriptions of what is under way, the outer one first

console = Terminal(stderr=True)


class Advance(Protocol):
    """Handle of a progress: ``advance()`` counts one more as done, ``advance.more(n)`` adds ``n`` to the total."""

    def __call__(self, n: int = 1, note: str | None = None) -> None:
        """Count ``n`` more as done, and show a note."""

    def more(self, n: int) -> None:
        """Add ``n`` to the total, if it was not known at the start."""


class Bar:
    """Progress as a bar of rich's."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def __call__(self, n: int = 1, note: str | None = None) -> None:
        """Count ``n`` more as done, and show a note after the times."""
        self._progress.update(self._task, advance=n)
        if note is not None:
            self._progress.update(self._task, note=note)

    def more(self, n: int) -> None:
        """Add ``n`` to the total."""
        total = self._progress.tasks[self._progress.task_ids.index(self._task)].total or 0
        self._progress.update(self._task, total=total + n)


class Lines:
    """Progress as lines on stderr, one in so many seconds."""

    def __init__(self, description: str, total: int, every: float) -> None:
        self._description, self._total, self._every, self._done = description, total, every, 0
        self._said = time.monotonic()

    def __call__(self, n: int = 1, note: str | None = None) -> None:
        """Count ``n`` more as done; the note stands behind the count."""
        self._done += n
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            more = f", {note}" if note else ""
            print(f"{self._description}: {self._done:,} of {self._total:,}{more}", file=sys.stderr, flush=True)

    def more(self, n: int) -> None:
        """Add ``n`` to the total."""
        self._total += n


@contextmanager
def bar(description: str, total: int) -> Iterator[Advance]:
    """Show progress; nothing is shown within another one.

    ::

        with bar("Scoring", 100) as advance:
            advance(1, note="AUROC 0.9")
    """
    inner = bool(_shown)
    _shown.append(description)
    try:
        if inner or not sys.stderr.isatty():
            yield Lines(description, total, math.inf if inner else LINE_EVERY)
            return
        # The bar takes over what is printed to the terminal that it stands in, never a file or a pipe.
        with Progress(*columns(), console=console, expand=True, redirect_stdout=sys.stdout.isatty()) as progress:
            yield Bar(progress, progress.add_task(description, total=total, note=""))
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
