"""Galleries: each image beside its reconstruction and its maps, on one fixed scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aeflow.errors import DataError
from aeflow.reporting.palette import MUTED
from aeflow.reporting.panels import (
    BAR,
    BAR_HEIGHT,
    BAR_TOP,
    BAR_WIDTH,
    DPI,
    GAP,
    HEAD,
    HEAD_SIZE,
    TICK_SIZE,
    TITLE,
    TITLE_SIZE,
    Array,
    Panel,
    cell_of,
    check_scales,
    ends_of,
    grey,
    heads_of,
)
from aeflow.reporting.style import HEAT_BAR, HEAT_MAP, styled

OUTLINE = "#35d0ff"  # a mask's edge: stands out from grey and from the heat colours


@styled
def gallery(panels: Sequence[Panel], map_scales: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw one row a panel: input, reconstruction, then each map over the image, with one colour bar a map.

    ``map_scales`` (low, high) per map: the values that 90 % and 99.9 % of held-out normals' pixels are below. A map is
    clear at low and fully coloured at high and above, in every row and for every image alike; masks are outlined.
    Raises DataError if there is no panel, or a map has no scale.
    """
    if not panels:
        raise DataError("gallery", "no panel", "give at least one image")
    names = list(dict.fromkeys(name for panel in panels for name in panel.maps))
    check_scales(names, map_scales)
    reconstructed = any(panel.reconstruction is not None for panel in panels)
    heads = heads_of(names, reconstructed)
    cell = cell_of(len(heads))
    tall = cell * min(1.5, max(panel.image.shape[0] / panel.image.shape[1] for panel in panels))
    row, width = TITLE + tall + GAP, len(heads) * (cell + GAP) - GAP
    height = HEAD + row * len(panels) + BAR
    figure = Figure((width, height), dpi=DPI)

    def place(column: int, top: float, wide: float, tall: float) -> Axes:
        """Return axes in a column, ``top`` inches below the figure's upper edge."""
        left = column * (cell + GAP) + (cell - wide) / 2
        return figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))

    for column, head in enumerate(heads):
        x = (column * (cell + GAP) + cell / 2) / width
        figure.text(x, 1 - HEAD / 2 / height, head, ha="center", va="center", fontweight="bold", fontsize=HEAD_SIZE)
    for number, panel in enumerate(panels):
        top = HEAD + number * row
        figure.text(0.003, 1 - (top + 0.6 * TITLE) / height, panel.title, va="center", fontsize=TITLE_SIZE)
        _show(place(0, top + TITLE, cell, tall), panel, panel.image)
        if reconstructed:
            _show(place(1, top + TITLE, cell, tall), panel, panel.reconstruction, outlined=False)
        for column, name in enumerate(names, 1 + reconstructed):
            axes = place(column, top + TITLE, cell, tall)
            score_map = panel.maps.get(name)
            _show(axes, panel, None if score_map is None else grey(panel.image))
            if score_map is not None:
                norm = Normalize(*map_scales[name], clip=True)
                axes.imshow(score_map, cmap=HEAT_MAP, norm=norm, interpolation="bilinear", extent=_extent(panel))
    for column, name in enumerate(names, 1 + reconstructed):
        low, high = map_scales[name]
        axes = place(column, height - BAR + BAR_TOP, BAR_WIDTH * cell, BAR_HEIGHT)
        bar = figure.colorbar(
            ScalarMappable(Normalize(low, high), HEAT_BAR), axes, orientation="horizontal", extend="max"
        )
        bar.outline.set_visible(False)
        bar.set_ticks([low, high], labels=ends_of(low, high))
        axes.tick_params(labelsize=TICK_SIZE, length=0, pad=4)
        left, right = axes.get_xticklabels()
        left.set_horizontalalignment("left")
        right.set_horizontalalignment("right")
    return figure


def _show(axes: Axes, panel: Panel, pixels: Array | None, outlined: bool = True) -> None:
    """Draw an image, and the outline of the mask on it; write "none" if there are no pixels."""
    axes.axis("off")
    if pixels is None:
        axes.text(0.5, 0.5, "none", ha="center", va="center", color=MUTED, transform=axes.transAxes)
        return
    axes.imshow(np.clip(pixels, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="bilinear", extent=_extent(panel))
    if outlined and panel.mask is not None and panel.mask.any() and not panel.mask.all():
        axes.contour(panel.mask, levels=[0.5], colors=[OUTLINE], linewidths=1.2)


def _extent(panel: Panel) -> tuple[float, float, float, float]:
    """Return the image's pixel coordinates, to which maps and reconstructions of any size are stretched."""
    height, width = panel.image.shape[:2]
    return -0.5, width - 0.5, height - 0.5, -0.5
