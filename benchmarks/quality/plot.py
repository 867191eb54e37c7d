"""Picture of the quality table: AUROC of each method with its interval, one panel a set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.common import SETS
from benchmarks.quality.methods import GROUPS, METHODS
from benchmarks.quality.table import values

COLOURS = {"aeflow": "#00796b", "labels": "#7b1fa2", "control": "#546e7a", "trivial": "#b0bec5", "peer": "#ef6c00"}
NAMES = {
    "aeflow": "aeflow, normals only",
    "labels": "aeflow, with labels",
    "control": "control",
    "trivial": "no model",
    "peer": "anomalib",
}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw means over seeds as points, DeLong's intervals as lines, and the default's mean dotted."""
    found = results["sets"]
    names = [
        n for m in METHODS for n in m.names if any(values(found.get(s, {}).get(n, []), "auroc", "value") for s in SETS)
    ]
    figure, panels = plt.subplots(1, 2, figsize=(10, 1 + 0.28 * len(names)), sharey=True, layout="constrained")
    drawn: dict[str, Any] = {}
    for axes, data in zip(panels, SETS, strict=True):
        for row, name in enumerate(names):
            if not (areas := values(found.get(data, {}).get(name, []), "auroc", "value")):
                continue
            colour, interval = COLOURS[GROUPS[name]], results.get("summary", {}).get(data, {}).get(name)
            if interval:
                axes.plot([interval["low"], interval["high"]], [row, row], color=colour, lw=1.5, zorder=1)
            drawn[GROUPS[name]] = axes.scatter(np.mean(areas), row, color=colour, s=28, zorder=2)
            if name == "default":
                axes.axvline(float(np.mean(areas)), color=colour, ls=":", lw=1, zorder=0)
        axes.set(title=data, xlabel="test AUROC", yticks=range(len(names)), yticklabels=names)
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].invert_yaxis()
    figure.legend(
        list(drawn.values()), [NAMES[g] for g in drawn], loc="outside lower center", ncols=len(drawn), frameon=False
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
