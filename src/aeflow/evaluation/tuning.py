"""A tuning for people: a few lines on a terminal, and a page of one file with pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

from aeflow.evaluation.report import public, render
from aeflow.evaluation.style import ABNORMAL, INK, MUTED, NEUTRAL, NORMAL, WIDTH, as_data_uri, grid, new_figure, styled
from aeflow.store import write_text

PAGE = "tune.html"
Facts = Mapping[str, Any]


def print_tuning(facts: Facts) -> None:
    """Print what was found and what it rests on."""
    console = Console(soft_wrap=True, highlight=False)
    finished = sum(trial["value"] is not None for trial in facts["trials"])
    console.print(f"{len(facts['trials'])} trials, {finished} trained to the end")
    table = Table("", "preset", "best")
    rows = {"proxy": (facts["default"]["value"], facts["best"]["value"])}
    if (again := facts["confirmed"]) is not None:
        rows["proxy, another seed"] = (again["default"]["value"], again["best"]["value"])
    for name in facts["best"]["figures"]:
        rows[f"AUROC {name}"] = (facts["default"]["figures"][name], facts["best"]["figures"][name])
    for name, values in rows.items():
        table.add_row(name, *("-" if one is None else f"{one:.4f}" for one in values))
    console.print(table)
    console.print(f"{finding(facts)}\n{declared(facts)}", markup=False)


def finding(facts: Facts) -> str:
    """What came of it, in a sentence."""
    again, changed = facts["confirmed"], {name: change["to"] for name, change in facts["changed"].items()}
    changes = ", ".join(f"{k}={'left to training' if v is None else public(v)}" for k, v in changed.items())
    if again is not None and not changes:
        return "The best settings were no better with another seed: the preset stays as it was."
    if not changes:
        return "Nothing better than the preset was found: it stays as it was."
    sure = "not tried with another seed: too little time" if again is None else "also ahead with another seed"
    return f"Changed: {changes} ({sure})."


def declared(facts: Facts) -> str:
    """Which abnormal images the choice rests on."""
    images = facts["images"]
    if not images["abnormal"]:
        return "No abnormal image was used: the choice rests on synthetic anomalies alone, which are not diseases."
    return (
        f"{images['abnormal']} abnormal images of the train split were used to choose: say so where you report "
        "figures, and report none on those images."
    )


def write_page(facts: Facts, folder: Path) -> Path:
    """Write tune.html into a folder; gives its path."""
    pictures = {"history": as_data_uri(history(facts))}
    if facts["importances"]:
        pictures["importances"] = as_data_uri(importance_bars(facts["importances"]))
    page = render("tune.html.j2", tuning=facts, finding=finding(facts), declared=declared(facts), pictures=pictures)
    write_text(folder / PAGE, page)
    return folder / PAGE


@styled
def history(facts: Facts) -> Figure:
    """The value of each trial, the best so far, and the preset's own."""
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    done = [(trial["number"], trial["value"]) for trial in facts["trials"] if trial["value"] is not None]
    numbers, values = np.array(done).T
    early = [trial["number"] for trial in facts["trials"] if trial["state"] == "stopped early"]
    axes.axhline(
        facts["default"]["value"], color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label="preset, read as it is"
    )
    axes.plot(numbers, np.maximum.accumulate(values), color=NEUTRAL, drawstyle="steps-post", label="best so far")
    axes.plot(numbers, values, "o", color=NORMAL, markersize=5.5, label="trial, best reading")
    low = min(float(values.min()), facts["default"]["value"])
    axes.plot(early, [low] * len(early), "x", color=ABNORMAL, markersize=5.5, label="stopped early (no value)")
    axes.set(xlabel="trial", ylabel="proxy", xlim=(-0.5, max(trial["number"] for trial in facts["trials"]) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid(axes)
    figure.legend(loc="outside upper left", ncols=4)
    return figure


@styled
def importance_bars(importances: Mapping[str, float]) -> Figure:
    """A bar a setting: its share of the variance of the values."""
    names = list(importances)
    figure = new_figure(WIDTH, 0.7 + 0.3 * len(names))
    axes = figure.subplots()
    axes.barh(range(len(names)), [importances[name] for name in names], color=NEUTRAL, height=0.6)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=9.5, color=INK)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, None), xlabel="share of the values' variance (fANOVA)")
    axes.tick_params(axis="y", length=0)
    grid(axes)
    return figure
