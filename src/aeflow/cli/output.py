"""Output of the commands: results to stdout, refusals and notes to stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import typer

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
    print(f"{len(refusals)} images refused:", file=sys.stderr)
    for _, error in refusals:
        print(f"  {error}", file=sys.stderr)
    if not os.environ.get(NAMES):
        print("  (--identify shows their names)", file=sys.stderr)
    raise typer.Exit(1)
