"""Pictures of the shift."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aeflow._types import Floats
from aeflow.evaluation.plots import DASHES, score_distributions
from aeflow.reporting.palette import ABNORMAL, INK, MUTED, NEUTRAL, NORMAL, WIDTH
from aeflow.reporting.style import grid, new_figure, styled


def figures(results: dict[str, Any], scores: dict[str, Floats]) -> dict[str, Figure]:
    """Draw all of them; return them by name."""
    at = results["threshold_at"]
    return {
        "scores": score_distributions(scores["normal"], scores["abnormal"], at, scores["held_out"]),
        "separable": separability(results),
        "matched": left_over(results),
        "places": places(results),
        "remedy": remedy(results),
    }


@styled
def separability(results: dict[str, Any]) -> Figure:
    """Draw as bars how well each kind of number tells train normals from test normals."""
    rows = [(name, found["auroc"], found["low"], found["high"]) for name, found in results["separable"].items()]
    rows += [(f"{n} (file)", found["auroc"], found["low"], found["high"]) for n, found in results["attributes"].items()]
    rows.sort(key=lambda row: row[1])
    figure = new_figure(WIDTH, 0.8 + 0.3 * len(rows))
    axes = figure.subplots()
    names, values, low, high = zip(*rows, strict=True)
    y = np.arange(len(rows))
    axes.barh(y, np.array(values) - 0.5, left=0.5, height=0.62, color=NEUTRAL, alpha=0.75)
    error = [np.subtract(values, low), np.subtract(high, values)]
    axes.errorbar(values, y, xerr=error, fmt="none", ecolor=INK, elinewidth=1.1)
    axes.set(yticks=y, xlim=(0.4, 1.0), xlabel="AUROC, train normals (held out) against test normals; 0.5 is by chance")
    axes.set_yticklabels(names)
    axes.axvline(0.5, color=INK, linewidth=1)
    _only_vertical(axes)
    return figure


@styled
def left_over(results: dict[str, Any]) -> Figure:
    """Draw the shift of the score once a trait is matched, from either side."""
    names = list(results["matched"])
    figure = new_figure(WIDTH, 1.0 + 0.5 * len(names))
    axes = figure.subplots()
    y = np.arange(len(names))[::-1]
    for side, colour, offset, label in (
        ("to_train", NEUTRAL, 0.18, "test normals with this trait of train normals"),
        ("to_test", NORMAL, -0.18, "held-out train normals with this trait of test normals"),
    ):
        values = [results["matched"][name][side]["shift"] for name in names]
        axes.barh(y + offset, values, height=0.34, color=colour, alpha=0.8, label=label)
    axes.axvline(results["matched"]["as it is"]["to_train"]["shift"], color=INK, linewidth=1, linestyle=DASHES)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set(yticks=y, xlabel="mean score, in standard deviations of held-out train normals' scores")
    axes.set_yticklabels(names)
    figure.legend(loc="outside upper left", ncols=2)
    _only_vertical(axes)
    return figure


@styled
def places(results: dict[str, Any]) -> Figure:
    """Draw where the anomaly map of test normals lies above that of held-out train normals."""
    found = results["places"]
    figure = new_figure(WIDTH, 3.6)
    left, right = figure.subplots(1, 2)
    image = left.imshow(found["map"], cmap="magma", vmin=0)
    left.set(title="anomaly map, test over train normals", xticks=[], yticks=[])
    figure.colorbar(image, ax=left, label="standard deviations")
    names = ("all", "rim", "inside")
    right.bar(names, [100 * found[name]["false_positive_rate"] for name in names], color=NEUTRAL, alpha=0.8, width=0.6)
    right.axhline(100 * results["threshold"]["wanted"], color=INK, linewidth=1, linestyle=DASHES, label="wanted")
    right.set(title="test normals above the threshold", ylabel="%")
    right.legend()
    return figure


@styled
def remedy(results: dict[str, Any]) -> Figure:
    """Draw false positive rate and sensitivity against the number of local normals."""
    figure = new_figure(WIDTH, 3.6)
    parts = (
        ("false_positive_rate", "false positive rate", results["threshold"]["normal"], ABNORMAL),
        ("sensitivity", "sensitivity", results["threshold"]["abnormal"], NEUTRAL),
    )
    for axes, (key, title, before, colour) in zip(figure.subplots(1, 2), parts, strict=True):
        rows = results["remedy"]["rank"]
        n = [int(size) for size in rows]
        found = [row[key] for row in rows.values()]
        axes.fill_between(n, [f["low"] for f in found], [f["high"] for f in found], color=colour, alpha=0.18, lw=0)
        axes.plot(
            n, [f["mean"] for f in found], color=colour, marker="o", markersize=4, label="recalibrated: mean, 90 %"
        )
        axes.axhline(before["value"], color=MUTED, linestyle=DASHES, label="threshold of training")
        if key == "false_positive_rate":
            axes.axhline(results["threshold"]["wanted"], color=INK, linewidth=1, label="wanted")
        axes.set(
            title=title,
            xlabel="local normal images",
            xscale="log",
            xticks=n,
            ylim=(0, 1 if key != parts[0][0] else None),
        )
        axes.set_xticklabels([str(size) for size in n])
        axes.minorticks_off()
        axes.legend(loc="upper right" if key == parts[0][0] else "lower right")  # where its lines do not run
        grid(axes)
    return figure


def _only_vertical(axes: Axes) -> None:
    grid(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
