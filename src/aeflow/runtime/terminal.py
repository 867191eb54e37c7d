"""What the program prints: text in which no name moves the cursor or changes a colour; tables: ``console``."""

from __future__ import annotations

import builtins
from typing import TextIO

from aeflow.errors import printable


def print(*parts: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Print as the function of Python's own does, each line in its ``printable`` form."""
    builtins.print(*(lines(str(part)) for part in parts), file=file, flush=flush)


def lines(text: str) -> str:
    """Return text of several lines, each in its ``printable`` form."""
    return "\n".join(map(printable, text.split("\n")))
