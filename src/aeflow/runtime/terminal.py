"""What the program prints: text in which no name moves the cursor or changes a colour; tables: ``console``."""

from __future__ import annotations

import builtins
import sys
from typing import TextIO

from aeflow.errors import printable


def print(*parts: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Print as the function of Python's own does, each line in its ``printable`` form."""
    try:
        builtins.print(*(lines(str(part)) for part in parts), file=file, flush=flush)
    except OSError as error:  # of a full disk, say, behind a redirection
        error.filename = "standard error" if file is sys.stderr else "standard output"
        raise


def lines(text: str) -> str:
    """Return text of several lines, each in its ``printable`` form."""
    return "\n".join(map(printable, text.split("\n")))
