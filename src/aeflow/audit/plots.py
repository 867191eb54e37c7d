"""Figures of an audit: separation by trivial attributes, their spread, and copies side by side."""

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
from aeflow.reporting.palette import ABNORMAL, FAINT, INK, MUTED, NEUTRAL, NORMAL, WIDTH
from aeflow.reporting.style import grid, new_figure, styled

MAX_ROWS = 12  # attributes on the chart at most
MAX_SPREADS = 6  # attributes whose spread is drawn at most
MAX_PAIRS = 12  # pairs drawn at most
SHADES = (ABNORMAL, NEUTRAL, "#b07d2b", MUTED)  # of the splits on the chart


@dataclass(frozen=True, slots=True)
class Twins:
    """Two copies (H, W) or (H, W, 3) in [0, 1], the title over each, and how alike they are."""

    images: tuple[NDArray[np.float32], NDArray[np.float32]]
    titles: tuple[str, str]
    alike: str


@styled
def separation_chart(separations: Sequence[Separation]) -> Figure:
    """Draw a row for each attribute: the AUROC with which it alone separates the groups, and its interval, by split.

    Raises DataError if nothing was measured.
    """
    if not separations:
        raise DataError("figure", "no attribute was measured", "give images of two groups")
    rows = list(dict.fromkeys(separation.attribute for separation in separations))[:MAX_ROWS]
    groups = sorted({separation.groups for separation in separations})
    figure = new_figure(WIDTH, 0.9 + 0.34 * len(rows))
    axes = figure.subplots()
    for threshold, name in ((SUSPECT, "look at it"), (STRONG, "strong")):
        axes.axvline(threshold, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.annotate(name, (threshold, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                      va="top", color=MUTED, fontsize=8.5)  # fmt: skip
    for separation in separations:
        if separation.attribute in rows:
            place = groups.index(separation.groups)
            y = rows.index(separation.attribute) + 0.22 * (place - (len(groups) - 1) / 2)
            colour = SHADES[place % len(SHADES)]
            axes.plot([max(separation.low, 0.5), separation.high], [y, y], color=colour, linewidth=3, alpha=0.4)
            axes.plot(separation.auroc, y, "o", color=colour, markersize=5.5)
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
    """Draw density curves of the attributes that separate best, for normal and abnormal images of the split.

    Raises DataError if none is a number.
    """
    chosen = [separation for separation in separations if ": " not in separation.attribute][:MAX_SPREADS]
    if not chosen:
        raise DataError("figure", "no attribute that is a number", "give images of two groups")
    columns = min(3, len(chosen))
    lines = -(-len(chosen) // columns)
    figure = new_figure(WIDTH, 0.6 + 2.3 * lines)
    figure.set_layout_engine("constrained", h_pad=0.1)  # keeps titles clear of the numbers above
    sheet = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, separation in zip(sheet, chosen, strict=False):
        split = separation.groups[1].partition(" in ")[2] or None
        values = attributes[separation.attribute]
        groups = [
            values[[r.split == split and r.label == label for r in records] & np.isfinite(values)] for label in (0, 1)
        ]
        view = view_of(groups)
        for group, colour in zip(groups, (NORMAL, ABNORMAL), strict=True):
            draw(axes, group, view, colour)
        axes.set_title(f"{separation.attribute}\n{split + ': ' if split else ''}{separation.auroc:.3f}")
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
    """Draw copies side by side, two pairs a row; raises DataError if there is none."""
    if not pairs:
        raise DataError("figure", "no pair to draw", "give at least one")
    shown = pairs[:MAX_PAIRS]
    lines = -(-len(shown) // 2)
    figure = new_figure(WIDTH, 2.75 * lines)
    parts = np.asarray(figure.subfigures(lines, 2, squeeze=False)).ravel()
    for part, pair in zip(parts, shown, strict=False):
        part.suptitle(pair.alike, fontsize=9.5, color=MUTED)
        for axes, image, title in zip(part.subplots(1, 2), pair.images, pair.titles, strict=True):
            _show(axes, image, title)
    return figure


def _show(axes: Axes, image: NDArray[np.float32], title: str) -> None:
    """Draw an image with its title."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=max(1e-6, float(image.max())), aspect="equal")
    axes.set_title(title, fontsize=9, fontweight="normal", loc="center")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(FAINT)
