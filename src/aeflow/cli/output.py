"""Output of the commands: results to stdout, refusals and notes to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from aeflow.errors import count
from aeflow.imageio.errors import ImageError
from aeflow.privacy import NAMES
from aeflow.runtime.terminal import print

if TYPE_CHECKING:
    from aeflow.data.records import Record

    Refusal = tuple[Record, ImageError]


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def called(verdicts: Counter[str], outside: Counter[str]) -> str:
    """Return how many images were called what, and how many of these are outside the intended input.

    >>> called(Counter(normal=12, abnormal=5), Counter(abnormal=3))
    '12 images called normal, 5 abnormal (3 of these outside the intended input)'
    """

    def beside(verdict: str) -> str:
        return f" ({outside[verdict]:,} of these outside the intended input)" if outside[verdict] else ""

    normal, abnormal = count(verdicts["normal"], "image"), f"{verdicts['abnormal']:,}"
    return f"{normal} called normal{beside('normal')}, {abnormal} abnormal{beside('abnormal')}"


def end(refusals: Sequence[Refusal], unwritten: Sequence[Refusal] = ()) -> None:
    """List the refused images, and those that have a score but no DICOM result; exit with code 1 if there are any."""
    if not refusals and not unwritten:
        return
    for listed, what in ((refusals, "refused"), (unwritten, "scored, but without DICOM results")):
        if listed:
            print(f"{count(len(listed), 'image')} {what}:", file=sys.stderr)
        for line, times in Counter(str(error) for _, error in listed).items():
            print(f"  {line}" + (f" ({times:,} times)" if times > 1 else ""), file=sys.stderr)
    if not os.environ.get(NAMES) and any(error.where not in str(error) for _, error in (*refusals, *unwritten)):
        print("  (--identify shows their names)", file=sys.stderr)
    raise typer.Exit(1)
