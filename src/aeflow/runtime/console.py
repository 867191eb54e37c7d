"""Console of rich's for tables and bars, in which no name moves the cursor or changes a colour.

What goes to a file or another program is plain: aligned columns without boxes, and nothing is wrapped.
"""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aeflow.runtime.terminal import lines

UNWRAPPED = 10_000  # columns where there is no terminal


class Terminal(Console):
    """Console of rich's that shows text in its ``printable`` form."""

    def __init__(self, **options: Any) -> None:
        self._plain = not options.get("stderr") and not sys.stdout.isatty()
        plain = {"width": UNWRAPPED, "force_terminal": False, "color_system": None} if self._plain else {}
        super().__init__(emoji=False, **{**options, **plain})

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text as rich shows it."""
        return super().render_str(lines(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, tables without boxes where there is no terminal."""
        if not self._plain:
            super().print(*objects, **options)
            return
        for table in objects:
            if isinstance(table, Table):
                table.box, table.pad_edge, table.show_lines = None, False, False
                for column in table.columns:
                    column.max_width = None
        with self.capture() as caught:
            super().print(*objects, **options)
        self.file.write("\n".join(line.rstrip() for line in caught.get().split("\n")))
