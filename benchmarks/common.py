"""Names, places and small functions that all benchmarks share."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aeflow.runtime.files import write_text
from aeflow.runtime.machine import machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
SETS = CHEST, BRAIN = "chest_xray_224", "lgg_mri_central"


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of the sample as text."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"


def machine_line() -> str:
    """Return cores, processor and the versions that a timing depends on, in a line."""
    facts = machine()
    return f"{facts['cores']} cores {platform.machine()}, Python {facts['python']}, torch {facts['versions']['torch']}"


def write_results(path: Path, results: Any) -> None:
    """Write results as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(results, indent=1) + "\n")


def with_table(page: str, name: str, table: str) -> str:
    """Return a page with ``table`` between its comments ``<!-- name: written by ... -->`` and ``<!-- /name -->``.

    Raises ValueError unless the page has them once.
    """
    comments = re.compile(
        rf"(<!-- {re.escape(name)}: written by [^\n]* -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL
    )
    written, found = comments.subn(lambda match: match[1] + table + match[2], page)
    if found != 1:
        raise ValueError(f"the page has {found} places for the table {name!r}; it needs one")
    return written
