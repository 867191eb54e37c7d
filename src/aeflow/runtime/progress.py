"""Progress bars on stderr; nothing if stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_outer: list[Progress] = []  # the bar that is shown

console = Console(stderr=True)


class Advance:
    """Handle of a bar: ``advance()`` counts one more as done, ``advance.more(n)`` adds ``n`` to the total."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def __call__(self, n: int = 1, note: str | None = None) -> None:
        """Count ``n`` more as done, and show a note after the times."""
        self._progress.update(self._task, advance=n)
        if note is not None:
            self._progress.update(self._task, note=note)

    def more(self, n: int) -> None:
        """Add ``n`` to the total, if it was not known at the start."""
        total = self._progress.tasks[self._progress.task_ids.index(self._task)].total or 0
        self._progress.update(self._task, total=total + n)


@contextmanager
def bar(description: str, total: int) -> Iterator[Advance]:
    """Show a progress bar; nothing is shown within another bar.

    ::

        with bar("Scoring", 100) as advance:
            advance(1, note="AUROC 0.9")
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=bool(_outer) or not console.is_terminal) as progress:
        task = progress.add_task(description, total=total, note="")

        _outer.append(progress)
        try:
            yield Advance(progress, task)
        finally:
            _outer.remove(progress)
