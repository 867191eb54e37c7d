"""Table of a benchmark for a terminal, with a bar that shows how the time is divided."""

from __future__ import annotations

from typing import Any

from rich.bar import Bar
from rich.table import Table

from aeflow.deploy.benchmark import STAGES, Bench
from aeflow.errors import count
from aeflow.runtime.console import Terminal

WIDTH = 24  # columns of the bar


def print_bench(found: Bench) -> None:
    """Print the stages, the whole beside the bare encoder, memory, and the machine."""
    console = Terminal()
    console.print(_stages(found))
    single, rates, over = found.single, found.rates, found.over_encoder
    console.print(f"scored by {found.backend}:")
    console.print(f"one image alone, file to score and maps: median {single.median:.1f} ms, p95 {single.p95:.1f} ms")
    if "encoder" in rates:
        console.print(f"bare encoder {rates['encoder']:.1f} images/s, batch {found.batch}, from memory")
    for name in ("score", "score with maps"):
        beside = f": {over[name]:.2f} of the bare encoder" if name in over else ""
        console.print(f"{name} {rates[name]:.1f} images/s, from files{beside}")
    if found.peak_mb is not None:
        console.print(f"peak memory, decoders included: {found.peak_mb:.0f} MiB")
    console.print(describe(found.machine), highlight=False)


def describe(machine: dict[str, Any]) -> str:
    """Return the facts of ``machine`` in one sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number)
    settings = " ".join(f"{name}={value}" for name, value in machine["environment"].items()) or "nothing"
    return (
        f"{machine['cpu']}, {count(machine['cores'], 'core')} (load {machine['load']:.1f}), "
        f"{machine['ram_gb']:.0f} GiB, {machine['gpu'] or 'no GPU'}; Python {machine['python']}, {versions}; "
        f"{count(machine['threads']['torch'], 'torch thread')}; set in the environment: {settings}"
    )


def _stages(found: Bench) -> Table:
    batches = list(found.stages)
    title = f"{count(found.images, 'image')}, {found.device}: milliseconds an image, warm, one stage after another"
    table = Table(title=title, title_justify="left")
    table.add_column("stage")
    for batch in batches:
        table.add_column(f"batch {batch}", justify="right")
        table.add_column("p95", justify="right")
    table.add_column(f"batch {batches[-1]}", width=WIDTH)
    whole, begin = sum(spread.median for spread in found.stages[batches[-1]].values()), 0.0
    for name in (name for name in STAGES if name in found.stages[batches[-1]]):
        spreads = [found.stages[batch][name] for batch in batches]
        end = begin + spreads[-1].median
        numbers = (f"{value:.2f}" for spread in spreads for value in (spread.median, spread.p95))
        table.add_row(name, *numbers, Bar(whole, begin, end, width=WIDTH))
        begin = end
    sums = (f"{sum(spread.median for spread in found.stages[batch].values()):.2f}" for batch in batches)
    table.add_section()
    table.add_row("sum", *(cell for number in sums for cell in (number, "")), "")
    return table
