"""Console of rich's for tables and bars, in which no name moves the cursor or changes a colour."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from aeflow.runtime.terminal import lines


class Terminal(Console):
    """Console of rich's that shows text in its ``printable`` form."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text as rich shows it."""
        return super().render_str(lines(text), **options)
