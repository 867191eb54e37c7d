"""The figures of an audit: how well trivial attributes tell images apart, how they spread, and copies side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from aeflow._types import Floats
from aeflow.audit.shortcuts import STRONG, SUSPECT, Separation
from aeflow.data.records import Record
from aeflow.errors import DataError
from aeflow.reporting.density import draw, view_of
from aeflow.reporting.style import ABNORMAL, FAINT, INK, MUTED, NEUTRAL, NORMAL, WIDTH, grid, new_figure, styled

COMPARISONS = 12  # attributes on the chart at most
SPREADS = 6  # attributes whose spread is drawn at most
PAIRS = 12  # pairs drawn at most
SHADES = (ABNORMAL, NEUTRAL, "#b07d2b", MUTED)  # of the splits on the chart


@dataclass(frozen=True, slots=True)
class Twins:
    """Two images (H, W) or (H, W, 3) in [0, 1] that are copies, what is written over each, and how alike they are."""

    images: tuple[NDArray[np.float32], NDArray[np.float32]]
    titles: tuple[str, str]
    alike: str


@styled
def separation_chart(separations: Sequence[Separation]) -> Figure:
    """A row an attribute: the AUROC with which it alone tells the groups apart, and its interval, for each split.

    Raises DataError if nothing was measured.
    """
    if not separations:
        raise DataError("figure", "no attribute was measured", "give images of two groups")
    rows = list(dict.fromkeys(one.attribute for one in separations))[:COMPARISONS]
    groups = sorted({one.groups for one in separations})
    figure = new_figure(WIDTH, 0.9 + 0.34 * len(rows))
    axes = figure.subplots()
    for threshold, name in ((SUSPECT, "look at it"), (STRONG, "strong")):
        axes.axvline(threshold, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.annotate(name, (threshold, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                      va="top", color=MUTED, fontsize=8.5)  # fmt: skip
    for one in separations:
        if one.attribute in rows:
            place = groups.index(one.groups)
            y = rows.index(one.attribute) + 0.22 * (place - (len(groups) - 1) / 2)
            colour = SHADES[place % len(SHADES)]
            axes.plot([max(one.low, 0.5), one.high], [y, y], color=colour, linewidth=3, alpha=0.4)
            axes.plot(one.auroc, y, "o", color=colour, markersize=5.5)
    axes.set(xlim=(0.495, 1.005), ylim=(len(rows) - 0.4, -0.9), xlabel="AUROC of the attribute alone (0.5 is chance)")
    axes.set_yticks(range(len(rows)), rows, fontsize=9.5, color=INK)
    axes.tick_params(axis="y", length=0)
    grid(axes)
    handles = [
        Line2D([], [], color=SHADES[i % len(SHADES)], marker="o", linewidth=3, label=f"{a} against {b}")
        for i, (a, b) in enumerate(groups)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


@styled
def spreads(separations: Sequence[Separation], attributes: Mapping[str, Floats], records: Sequence[Record]) -> Figure:
    """Density curves of the attributes that separate best, normal and abnormal images of the split apart.

    Raises DataError if none is a number.
    """
    chosen = [one for one in separations if ": " not in one.attribute][:SPREADS]
    if not chosen:
        raise DataError("figure", "no attribute that is a number", "give images of two groups")
    columns = min(3, len(chosen))
    lines = -(-len(chosen) // columns)
    figure = new_figure(WIDTH, 0.6 + 2.3 * lines)
    figure.set_layout_engine("constrained", h_pad=0.1)  # titles stand clear of the numbers above
    sheet = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, one in zip(sheet, chosen, strict=False):
        split = one.groups[1].partition(" in ")[2] or None
        values = attributes[one.attribute]
        groups = [
            values[[r.split == split and r.label == label for r in records] & np.isfinite(values)] for label in (0, 1)
        ]
        view = view_of(groups)
        for group, colour in zip(groups, (NORMAL, ABNORMAL), strict=True):
            draw(axes, group, view, colour)
        axes.set_title(f"{one.attribute}\n{split + ': ' if split else ''}{one.auroc:.3f}")
        axes.set(xlim=view, yticks=[])
        axes.set_ylim(0, None)
        axes.spines["left"].set_visible(False)
        axes.xaxis.get_major_locator().set_params(nbins=4)
    for axes in sheet[len(chosen) :]:
        axes.set_visible(False)
    handles = [Patch(color=NORMAL, label="normal"), Patch(color=ABNORMAL, label="abnormal")]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, handlelength=1.3)
    return figure


@styled
def pair_sheet(pairs: Sequence[Twins]) -> Figure:
    """Copies side by side, two pairs a row; raises DataError if there is none."""
    if not pairs:
        raise DataError("figure", "no pair to draw", "give at least one")
    shown = pairs[:PAIRS]
    lines = -(-len(shown) // 2)
    figure = new_figure(WIDTH, 2.75 * lines)
    parts = np.asarray(figure.subfigures(lines, 2, squeeze=False)).ravel()
    for part, pair in zip(parts, shown, strict=False):
        part.suptitle(pair.alike, fontsize=9.5, color=MUTED)
        for axes, image, title in zip(part.subplots(1, 2), pair.images, pair.titles, strict=True):
            _show(axes, image, title)
    return figure


def _show(axes: Axes, image: NDArray[np.float32], title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=max(1e-6, float(image.max())), aspect="equal")
    axes.set_title(title, fontsize=9, fontweight="normal", loc="center")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(FAINT)
