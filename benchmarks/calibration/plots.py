"""Pictures of the calibration study."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aeflow.evaluation.plots import DASHES
from aeflow.reporting.palette import ABNORMAL, INK, MUTED, NEUTRAL, NORMAL, WIDTH
from aeflow.reporting.style import grid, new_figure, styled
from benchmarks.common import BRAIN, CHEST

TITLES = {CHEST: "chest X-ray", BRAIN: "brain MRI"}
COLOURS = (MUTED, NEUTRAL, ABNORMAL, NORMAL)


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """Draw all of them; return them by name."""
    return {
        "p_values": p_values(results),
        "posterior": posterior(results),
        "decision": decision(results),
        "kinds": kinds(results),
    }


@styled
def p_values(results: dict[str, Any]) -> Figure:
    """Draw the share of normals whose p-value reaches a level, against the level."""
    panels = [
        (TITLES[name] + (", in the lungs" if kind == "lungs" else ""), found)
        for name, by_kind in results["p_values"].items()
        for kind, found in by_kind.items()
    ]
    figure = new_figure(WIDTH, 3.4)
    for axes, (title, found) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHES, label="uniform")
        for group, colour, label in (("fresh", NORMAL, "fresh train normals"), ("test", NEUTRAL, "test normals")):
            axes.step(found["levels"], found[group]["reached"], color=colour, where="post", label=label)
        axes.set(title=title, xlabel="p-value", ylabel="share with this or less", aspect="equal")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        grid(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


@styled
def posterior(results: dict[str, Any]) -> Figure:
    """Draw the share of abnormal images against the probability."""
    figure = new_figure(WIDTH, 4.2)
    for axes, (name, found) in zip(figure.subplots(1, 2), results["posterior"].items(), strict=True):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHES)
        for key, colour in (("as it comes", NEUTRAL), ("right share", NORMAL)):
            curve, error = found[key]["curve"], found[key]["error"]["value"]
            label = f"{key}: error {error:.3f}"
            axes.plot(curve["predicted"], curve["found"], color=colour, marker="o", markersize=4, label=label)
        title = f"{name.removeprefix('gmm-')} labelled images"
        axes.set(title=title, xlabel="p_abnormal, mean of a tenth", ylabel="share of abnormal images", aspect="equal")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(loc="upper left")
        grid(axes)
    return figure


@styled
def decision(results: dict[str, Any]) -> Figure:
    """Draw the net benefit against the threshold probability, one panel a share of abnormal images."""
    at, shares = np.array(results["decision"]["at"]), results["decision"]["shares"]
    figure = new_figure(WIDTH, 3.9)
    panels = figure.subplots(1, len(shares))
    for axes, (share, rows) in zip(panels, shares.items(), strict=True):
        axes.axhline(0, color=INK, linewidth=1, label="none called abnormal")
        axes.plot(at, rows["all called abnormal"], color=MUTED, linestyle=DASHES, label="all called abnormal")
        names = dict.fromkeys(name.partition(",")[0] for name in rows if "," in name)
        for name, colour in zip(names, COLOURS, strict=True):
            for part, style in (("verdict", (0, (1, 1))), ("p_abnormal", "solid")):
                if f"{name}, {part}" in rows:
                    label = f"{name}, {part}"
                    axes.plot(at, rows[label], color=colour, linestyle=style, linewidth=1.5, label=label)
        axes.set(title=f"{100 * float(share):.3g} % abnormal", xlabel="threshold probability")
        reach = float(share)
        axes.set(xlim=(0, min(1, 3 * reach)), ylim=(-0.15 * reach, 1.05 * reach))
        grid(axes)
    panels[0].set_ylabel("net benefit")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)
    return figure


@styled
def kinds(results: dict[str, Any]) -> Figure:
    """Draw sensitivity and AUROC by kind, with their intervals."""
    figure = new_figure(WIDTH, 3.4)
    models = list(results["kinds"])
    names = [name for name in results["kinds"][models[0]] if name != "specificity"]
    for axes, key in zip(figure.subplots(1, 2), ("sensitivity", "auroc"), strict=True):
        for row, (model, colour) in enumerate(zip(models, COLOURS, strict=True)):
            found = [results["kinds"][model][name][key] for name in names]
            x = np.arange(len(names)) + 0.2 * (row - 1.5)
            values = np.array([one["value"] for one in found])
            error = [values - [one["low"] for one in found], [one["high"] for one in found] - values]
            axes.errorbar(x, values, yerr=error, fmt="o", color=colour, markersize=5, elinewidth=1.3, label=model)
        axes.set(title={"auroc": "AUROC"}.get(key, key), xticks=range(len(names)), ylim=(0, 1.02))
        axes.set_xticklabels([f"{n} ({results['kinds'][models[0]][n]['n']})" for n in names])
        grid(axes)
    axes.legend(loc="lower right")
    return figure
