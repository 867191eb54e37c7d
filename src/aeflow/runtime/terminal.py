"""What the program shows: ``print`` and tables of rich's, in which no name moves the cursor or changes a colour."""

from __future__ import annotations

import builtins
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from aeflow.errors import printable


def print(*parts: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Print as the function of Python's own does, each line in its ``printable`` form."""
    builtins.print(*(_lines(str(part)) for part in parts), file=file, flush=flush)


class Terminal(Console):
    """Console of rich's that shows text in its ``printable`` form."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text as rich shows it."""
        return super().render_str(_lines(text), **options)


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
