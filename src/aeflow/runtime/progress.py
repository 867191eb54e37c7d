"""Progress bars on stderr; nothing where stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[..., None]  # advance(n=1, note="")
_outer: list[Progress] = []  # the bar that is shown

console = Console(stderr=True)


@contextmanager
def bar(description: str, total: int) -> Iterator[Advance]:
    """``with bar("Scoring", 100) as advance: advance(1, note="AUROC 0.9")``; nothing is shown within another bar."""
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

        def advance(n: int = 1, note: str | None = None) -> None:
            progress.update(task, advance=n)
            if note is not None:
                progress.update(task, note=note)

        _outer.append(progress)
        try:
            yield advance
        finally:
            _outer.remove(progress)
