"""Figures in the texts: each stands beside a comment that names its source, and is written from there.

    python scripts/figures.py docs/*.md           # show figures and statements that do not hold any more; exit code 1
    python scripts/figures.py --write docs/*.md   # write the figures again; statements are for a person to mend

A figure is `0.890<!-- mean quality: sets/chest_xray_224/default/*/auroc/value -->`: `mean`, `sd` (of the sample),
`min`, `max`, `sum`, `count` or `the` (there is but one) of the values there in `benchmarks/results/quality.json`.
Parts of a place stand between slashes; `*` is every part, `k=10&draw=0` every part of a list that has these values.
The number keeps the decimals it has; with ` %` behind it, it is a hundred times as large.

A statement is `<!-- holds: mean quality: a/b > 0.89 -->`, `>` or `<`, with a figure or a number on either side.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
HOW: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "sd": statistics.stdev,
    "min": min,
    "max": max,
    "sum": sum,
    "count": len,
}
SOURCE = rf"({'|'.join(HOW)}|the) ([a-z_]+): (.+?)"
FIGURE = re.compile(rf"(-?[\d,]+(?:\.\d+)?)( %)?<!-- {SOURCE} -->")
STATEMENT = re.compile(r"<!-- holds: (.+?) ([<>]) (.+?) -->")


class FigureError(Exception):
    """Error for a comment that names no figure."""


def main() -> None:
    """Check the pages; write them first if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    wrong = []
    for page in options.pages:
        text = page.read_text()
        if options.write:
            page.write_text(text := with_figures(text))
        wrong += [f"{page}: {one}" for one in (*stale(text), *false_statements(text))]
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


def with_figures(text: str) -> str:
    """Return the text with every figure as it was measured."""

    def write(found: re.Match[str]) -> str:
        number, percent = found[1], found[2] or ""
        decimals = len(number.partition(".")[2])
        value = (100 if percent else 1) * figure(found[3], found[4], found[5])
        shown = f"{value:{',' if ',' in number else ''}.{decimals}f}"
        return shown + found[0][len(number) :]

    return FIGURE.sub(write, text)


def stale(text: str) -> list[str]:
    """Return the figures that are not as measured: ``0.890 is 0.885 now (mean quality: ...)``."""
    pairs = zip(FIGURE.finditer(text), FIGURE.finditer(with_figures(text)), strict=True)
    return [
        f"{old[1]} is {new[1]} now ({' '.join(old.group(3, 4))}: {old[5]})" for old, new in pairs if old[1] != new[1]
    ]


def false_statements(text: str) -> list[str]:
    """Return the statements that do not hold, as they are written, with both numbers."""
    wrong = []
    for found in STATEMENT.finditer(text):
        left, right = _side(found[1]), _side(found[3])
        if not (left > right if found[2] == ">" else left < right):
            wrong.append(f"does not hold: {found[1]} {found[2]} {found[3]} ({left:.4f}, {right:.4f})")
    return wrong


def _side(text: str) -> float:
    """Return the number of one side of a statement."""
    found = re.fullmatch(SOURCE, text)
    try:
        return figure(*found.groups()) if found else float(text)
    except ValueError as error:
        raise FigureError(f"neither a number nor a figure: {text}") from error


def figure(how: str, results: str, place: str) -> float:
    """Return one figure of a file of results; FigureError if there is none."""
    try:
        found = [_loaded(results)]
        for part in place.split("/"):
            found = [inner for outer in found for inner in _at(outer, part)]
    except (OSError, KeyError, TypeError) as error:
        raise FigureError(f"{results}: {place}: {type(error).__name__}") from error
    if not found or (how == "the" and len(found) != 1) or (how == "sd" and len(found) < 2):
        raise FigureError(f"{results}: {place}: {len(found)} values for '{how}'")
    return float(found[0]) if how == "the" else float(HOW[how](found))


def _at(value: Any, part: str) -> list[Any]:
    """Return the values at one part of a place."""
    if part == "*":
        return list(value.values()) if isinstance(value, dict) else list(value)
    if isinstance(value, dict):
        return [value[part]]
    wanted = dict(condition.split("=") for condition in part.split("&"))
    return [row for row in value if all(str(row.get(key)) == text for key, text in wanted.items())]


@cache
def _loaded(results: str) -> Any:
    return json.loads((RESULTS / f"{results}.json").read_text())


if __name__ == "__main__":
    main()
