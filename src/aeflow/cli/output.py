"""Output of the commands: results to stdout, refusals and notes to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from aeflow.errors import count
from aeflow.imageio.errors import ImageError
from aeflow.privacy import NAMES
from aeflow.runtime.terminal import print

if TYPE_CHECKING:
    from aeflow.data.records import Record


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def end(refusals: list[tuple[Record, ImageError]]) -> None:
    """List the refused images, and exit with code 1 if there are any."""
    if not refusals:
        return
    print(f"{count(len(refusals), 'image')} refused:", file=sys.stderr)
    for line, times in Counter(str(error) for _, error in refusals).items():
        print(f"  {line}" + (f" ({times:,} times)" if times > 1 else ""), file=sys.stderr)
    if not os.environ.get(NAMES) and any(error.where not in str(error) for _, error in refusals):
        print("  (--identify shows their names)", file=sys.stderr)
    raise typer.Exit(1)
