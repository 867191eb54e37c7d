"""Explanation of a network as a figure."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aeflow.reporting.notebook import PURPOSE
from aeflow.reporting.palette import MUTED, WIDTH
from aeflow.reporting.panels import GAP, Array, panel_title
from aeflow.reporting.style import DPI, HEAT_BAR, HEAT_MAP, styled
from aeflow.results.explanation import Beside, Explanation
from aeflow.results.network_explanation import SHOWN

DIFFERENCE = (0.03, 0.15)  # grey values between reconstruction and counterpart: clear below, fully coloured above
LINE, HEAD, BAR, CAPTION, MARGIN = 0.25, 0.28, 0.58, 0.24, 0.12  # inches
LEGENDS = ("grey values, of 1", "places of normals below it")  # of the two colour bars
RARE = ("90 %", "99.9 %")  # of these places: the ends of the map's scale
LETTERS = 115  # of a line of text


@styled
def draw(explanation: Explanation, beside: Beside, map_scale: tuple[float, float]) -> Figure:
    """Draw image, reconstruction, healthy counterpart, their difference and the anomaly map.

    The nearest normals are below.
    """
    result = explanation.score
    grey = bool((result.pictures[0] == result.pictures[0][:1]).all())
    image, x_hat, counterpart = (_shown(picture, grey) for picture in (*result.pictures, beside.healthy))
    title = panel_title(result)
    lines = [title, f"threshold {explanation.threshold:.3g}   ·   {explanation.finding}"]
    whole = (reading.replace(" ", "\N{NO-BREAK SPACE}") for reading in explanation.readings)
    lines += textwrap.wrap(";   ".join(whole), LETTERS)
    if result.posterior:
        lines.append("   ·   ".join(f"{kind} {p:.0%}" for kind, p in result.posterior.items()))
    cell, small = (WIDTH + GAP) / 5 - GAP, (WIDTH - 2 * GAP) / (2 * SHOWN) - GAP
    first = LINE * len(lines) + HEAD
    second = first + cell + BAR + HEAD
    height = second + small + CAPTION + LINE
    wide_all = WIDTH + 2 * MARGIN
    figure = Figure((wide_all, height), dpi=DPI)

    def place(left: float, top: float, wide: float, tall: float) -> Axes:
        return figure.add_axes(((MARGIN + left) / wide_all, 1 - (top + tall) / height, wide / wide_all, tall / height))

    def text(left: float, top: float, words: str, **style: str | float) -> None:
        figure.text((MARGIN + left) / wide_all, 1 - top / height, words, va="center", **style)  # type: ignore[arg-type]

    for number, line in enumerate(lines):
        text(0, (number + 0.5) * LINE, line, fontsize=10, fontweight="bold" if number == 0 else "normal")
    heads = ("input", "reconstruction", "healthy counterpart", "difference of the two", "anomaly map")
    for column, (head, picture) in enumerate(zip(heads, (image, x_hat, counterpart, image, image), strict=True)):
        if column in (2, 3) and not beside.shows_counterpart:
            continue  # it would show nothing
        left = (column if beside.shows_counterpart else min(column, 2)) * (cell + GAP)
        text(left + cell / 2, first - HEAD / 2, head, ha="center", fontweight="bold", fontsize=9.5)
        axes = place(left, first, cell, cell)
        _draw(axes, picture if column < 3 or picture.ndim == 2 else picture.mean(axis=-1))
        if column < 3:
            continue
        values, scale = ((beside.difference, DIFFERENCE), (result.maps["anomaly"], map_scale))[column - 3]
        axes.imshow(values, cmap=HEAT_MAP, norm=Normalize(*scale, clip=True), interpolation="bilinear")
        bar = place(left + 0.03 * cell, first + cell + 0.06, 0.94 * cell, 0.1)
        figure.colorbar(ScalarMappable(Normalize(*scale), HEAT_BAR), bar, orientation="horizontal", extend="max")
        bar.set_xlabel(LEGENDS[column - 3], fontsize=8, labelpad=1)
        bar.set_xticks(scale, [f"{value:.3g}" for value in scale] if column == 3 else RARE)
        bar.tick_params(labelsize=8, length=0, pad=3)
        low, high = bar.get_xticklabels()
        low.set_horizontalalignment("left")
        high.set_horizontalalignment("right")
    usual = "" if beside.usual_distance is None else f" (distance among normals {beside.usual_distance:.3g})"
    text(0, height - LINE / 2, PURPOSE, fontsize=8, color=MUTED)
    groups = ((f"nearest train normals{usual}", beside.normals), ("nearest generated normals", beside.generated))
    for group, (head, found) in enumerate(groups):
        left = group * (SHOWN * (small + GAP) + 3 * GAP)  # the groups stand apart
        text(left, second - HEAD / 2, head, fontweight="bold", fontsize=9.5)
        if not found:
            text(left, second + small / 2, "not in the run folder", color=MUTED)
        for column, normal in enumerate(found):
            at = left + column * (small + GAP)
            _draw(place(at, second, small, small), normal.picture)
            caption = f"distance {normal.distance:.3g}"
            text(at + small / 2, second + small + CAPTION / 2, caption, ha="center", fontsize=8, color=MUTED)
    return figure


def _draw(axes: Axes, pixels: Array) -> None:
    axes.axis("off")
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")


def _shown(picture: Array, grey: bool) -> Array:
    """Return a picture (3, H, W) as (H, W) or (H, W, 3)."""
    return picture.mean(axis=0) if grey else picture.transpose(1, 2, 0)
