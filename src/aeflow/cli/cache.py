"""The commands ``aeflow cache``: the list of what is kept on disk to save time, and its deletion."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from aeflow.cli.options import Json, Program, app
from aeflow.cli.output import print_json
from aeflow.errors import ArtifactError, SettingsError, count
from aeflow.runtime.cache import Entry, cache_root, clear, entries
from aeflow.runtime.cache_limit import cache_limit
from aeflow.runtime.terminal import print

cache = Program(help="List or clear what is kept on disk to save time.", no_args_is_help=True)
app.add_typer(cache, name="cache")

LARGE = 20 * 10**9  # bytes of a cache without a limit from which a training says so
SECONDS = {"h": 3600, "d": 86400, "w": 604800}
Age = Annotated[str | None, typer.Option(help="Delete only what was not used for this long: 12h, 30d, 4w.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@cache.command("list")
def list_entries(as_json: Json = False) -> None:
    """List the features and graphs that the cache holds: number, size, and when they were last used."""
    root, limit = cache_root(), cache_limit()
    found = entries(root)
    if as_json:
        print_json({"folder": _from_home(root), "limit": limit, **_summary(found)})
        return
    now = time.time()
    for entry in found:
        print(_line(entry, now))
    most = "" if limit is None else f", at most {_bytes(limit)}"
    print(f"{_total(found)} in {_from_home(root)}{most}")


@cache.command("clear")
def clear_entries(older_than: Age = None, yes: Yes = False, as_json: Json = False) -> None:
    """Delete what the cache holds; it is computed again when it is needed."""
    root, now = cache_root(), time.time()
    age = -math.inf if older_than is None else seconds_of(older_than)
    chosen = [entry for entry in entries(root, now) if now - entry.used > age]
    if chosen and not yes:
        _ask(chosen, root, now)
    try:
        clear(chosen, root)
    except OSError as error:
        raise ArtifactError(root, f"cannot be cleared ({error.strerror})", "clear it as its owner") from error
    if as_json:
        print_json({"folder": _from_home(root), **_summary(chosen)})
    else:
        print(f"deleted {_total(chosen)} in {_from_home(root)}")


def seconds_of(age: str) -> float:
    """Return ``12h``, ``30d`` or ``4w`` in seconds; raise SettingsError for anything else.

    >>> seconds_of("30d")
    2592000.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([hdw])", age.strip())
    if not found:
        raise SettingsError("--older-than", f"{age!r} is no age", "write for instance 12h, 30d or 4w")
    return float(found[1]) * SECONDS[found[2]]


def if_large() -> list[str]:
    """Return a note on the place and the size of a cache that has grown large without a limit; none for others."""
    root = cache_root()
    if cache_limit() is not None or (size := sum(entry.size for entry in entries(root))) <= LARGE:
        return []
    remedy = "aeflow cache clear --older-than 30d empties it, and AEFLOW_CACHE_LIMIT=20GB bounds it"
    return [f"the cache in {_from_home(root)} has grown to {size / 1e9:,.0f} GB: {remedy}"]


def _from_home(folder: Path) -> str:
    """Return a folder as a user writes it, from the home folder if it lies there, whose name names the user."""
    home = Path(os.path.expanduser("~"))
    return f"~/{folder.relative_to(home).as_posix()}" if folder.is_relative_to(home) else str(folder)


def _ask(chosen: Sequence[Entry], root: Path, now: float) -> None:
    """Show what is to be deleted, and go on only after a yes."""
    if not sys.stdin.isatty():
        found = f"{_total(chosen)} would be deleted, and nobody is at a terminal to agree"
        raise SettingsError(root, found, "add --yes")
    for entry in chosen:
        print(_line(entry, now), file=sys.stderr)
    typer.confirm(f"Delete {_total(chosen)} in {root}?", abort=True, err=True)


def _line(entry: Entry, now: float) -> str:
    images = count(entry.images, "image") if entry.kind == "features" else ""
    return f"{entry.kind:10}  {entry.what:60}  {images:>15}  {_bytes(entry.size):>9}  {_ago(now - entry.used)}"


def _total(chosen: Sequence[Entry]) -> str:
    return f"{count(len(chosen), 'entry', 'entries')}, {_bytes(sum(entry.size for entry in chosen))}"


def _bytes(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"


def _ago(seconds: float) -> str:
    """Return a time ago in whole units, the largest that fits."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"used {count(int(seconds // length), unit)} ago"
    return "used just now"


def _summary(found: Sequence[Entry]) -> dict[str, Any]:
    rows = [
        {
            "kind": entry.kind,
            "what": entry.what,
            "images": entry.images,
            "bytes": entry.size,
            "used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
        }
        for entry in found
    ]
    return {"bytes": sum(entry.size for entry in found), "entries": rows}
