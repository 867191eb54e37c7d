"""Tunings as a few lines on a terminal, and as a page of one file with pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from aeflow.errors import count
from aeflow.reporting.html import public, render
from aeflow.reporting.palette import ABNORMAL, INK, MUTED, NEUTRAL, NORMAL, WIDTH
from aeflow.reporting.style import as_data_uri, grid, new_figure, styled
from aeflow.runtime.console import Terminal
from aeflow.runtime.files import write_text


def print_tuning(summary: Mapping[str, Any]) -> None:
    """Print the result and the images it rests on."""
    console = Terminal(soft_wrap=True, highlight=False)
    finished = sum(trial["value"] is not None for trial in summary["trials"])
    console.print(f"{count(len(summary['trials']), 'trial')}, {finished:,} trained to the end")
    console.print(finding(summary), markup=False)
    table = Table("", "preset", "best found" if summary["changed"] else "best found, not taken")
    rows = {"proxy": (summary["default"]["value"], summary["best"]["value"])}
    if (again := summary["confirmed"]) is not None:
        rows["proxy, another seed"] = (again["default"]["value"], again["best"]["value"])
    for name in summary["best"]["figures"]:
        rows[f"AUROC {name}"] = (summary["default"]["figures"][name], summary["best"]["figures"][name])
    for name, values in rows.items():
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in values))
    console.print(table)
    console.print(declared(summary), markup=False)


def finding(summary: Mapping[str, Any]) -> str:
    """Return the result, in a sentence."""
    again, changed = summary["confirmed"], {name: change["to"] for name, change in summary["changed"].items()}
    changes = ", ".join(f"{k}={'left to training' if v is None else public(v)}" for k, v in changed.items())
    if again is not None and not changes:
        return "The best settings were no better with another seed: the preset stays as it was."
    if again is None and summary["best"]["value"] > summary["default"]["value"]:
        return (
            "Better settings were found, but not tried with another seed: too little time. The preset stays as it was; "
            "the same command with a larger budget goes on."
        )
    if not changes:
        return "Nothing better than the preset was found: it stays as it was."
    return f"Changed: {changes} (also ahead with another seed)."


def declared(summary: Mapping[str, Any]) -> str:
    """Return a sentence about the abnormal images that the choice rests on."""
    images = summary["images"]
    verb = "was" if images["abnormal"] == 1 else "were"
    if not images["abnormal"]:
        return "No abnormal image was used: the choice rests on synthetic anomalies alone, which are not diseases."
    return (
        f"{count(images['abnormal'], 'abnormal image')} of the train split {verb} used to choose: say so where you "
        "report figures, and report none on those images."
    )


def write_page(summary: Mapping[str, Any], file: Path) -> None:
    """Write the page."""
    pictures = {"history": as_data_uri(history(summary))}
    if summary["importances"]:
        pictures["importances"] = as_data_uri(importance_bars(summary["importances"]))
    page = render(
        "tune.html.j2", tuning=summary, finding=finding(summary), declared=declared(summary), pictures=pictures
    )
    write_text(file, page)


@styled
def history(summary: Mapping[str, Any]) -> Figure:
    """Draw the value of each trial, the best so far, and the preset's own."""
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    done = [(trial["number"], trial["value"]) for trial in summary["trials"] if trial["value"] is not None]
    numbers, values = np.array(done).T
    early = [trial["number"] for trial in summary["trials"] if trial["state"] == "stopped early"]
    axes.axhline(
        summary["default"]["value"], color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label="preset, read as it is"
    )
    axes.plot(numbers, np.maximum.accumulate(values), color=NEUTRAL, drawstyle="steps-post", label="best so far")
    axes.plot(numbers, values, "o", color=NORMAL, markersize=5.5, label="trial, best reading")
    low = min(float(values.min()), summary["default"]["value"])
    axes.plot(early, [low] * len(early), "x", color=ABNORMAL, markersize=5.5, label="stopped early (no value)")
    axes.set(xlabel="trial", ylabel="proxy", xlim=(-0.5, max(trial["number"] for trial in summary["trials"]) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid(axes)
    figure.legend(loc="outside upper left", ncols=4)
    return figure


@styled
def importance_bars(importances: Mapping[str, float]) -> Figure:
    """Draw a bar for each setting: its share of the variance of the values."""
    names = list(importances)
    figure = new_figure(WIDTH, 0.7 + 0.3 * len(names))
    axes = figure.subplots()
    axes.barh(range(len(names)), [importances[name] for name in names], color=NEUTRAL, height=0.6)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=9.5, color=INK)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, None), xlabel="share of the values' variance (fANOVA)")
    axes.tick_params(axis="y", length=0)
    grid(axes)
    return figure
