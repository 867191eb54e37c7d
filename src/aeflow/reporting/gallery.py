"""Galleries: each image beside its reconstruction and its maps, on one fixed scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aeflow.errors import DataError
from aeflow.reporting.heat_colours import HEAT, HEAT_ON_GREY
from aeflow.reporting.style import MUTED, WIDTH, styled
from aeflow.scoring.scorer import Score

Array = NDArray[np.floating[Any]]
OUTLINE = "#35d0ff"  # a mask's edge: stands out from grey and from the heat colours
GAP, TITLE, HEAD, BAR = 0.08, 0.32, 0.26, 0.66  # inches: between cells, and heights of lines, heads and colour bars
TITLE_SIZE = 10  # points
DPI = 120  # shows an image of 224 pixels at about its own size


@dataclass(frozen=True)
class Panel:
    """One image of a gallery: image and reconstruction (H, W) or (H, W, 3) in [0, 1], maps (H, W), mask (H, W)."""

    image: Array
    reconstruction: Array | None
    maps: dict[str, Array]
    title: str
    mask: NDArray[np.bool_] | None = None


def panel_title(
    score: float, p_value: float, verdict: str, truth: str | None = None, outside: Sequence[str] = ()
) -> str:
    """Return the line above a panel: score, p-value, verdict, the truth if known, and why not to rely on it."""
    known = f"   ·   truth: {truth}" if truth else ""
    warned = f"   ·   OUTSIDE INTENDED INPUT: {', '.join(outside)}" if outside else ""
    return f"score {score:.3g}   ·   p = {p_value:.2g}   ·   called {verdict}{known}{warned}"


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
    for name in names:
        if name not in map_scales or not map_scales[name][0] < map_scales[name][1]:
            raise DataError("gallery", f"no scale (low < high) for the map '{name}'", "fit one on held-out normals")
    reconstructed = any(panel.reconstruction is not None for panel in panels)
    heads = ["input", *(["reconstruction"] if reconstructed else []), *(f"{name} map" for name in names)]
    cell = (WIDTH + GAP) / max(len(heads), 3) - GAP
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
        figure.text(x, 1 - HEAD / 2 / height, head, ha="center", va="center", fontweight="bold", fontsize=10.5)
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
                axes.imshow(score_map, cmap=HEAT, norm=norm, interpolation="bilinear", extent=_extent(panel))
    for column, name in enumerate(names, 1 + reconstructed):
        low, high = map_scales[name]
        axes = place(column, height - BAR + 0.1, 0.94 * cell, 0.13)
        bar = figure.colorbar(
            ScalarMappable(Normalize(low, high), HEAT_ON_GREY), axes, orientation="horizontal", extend="max"
        )
        bar.outline.set_visible(False)
        bar.set_ticks([low, high], labels=[f"{low:.3g}\nin 90 % of normals", f"{high:.3g}\nin 99.9 %"])
        axes.tick_params(labelsize=8, length=0, pad=4)
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


def grey(image: Array) -> Array:
    """Return an image (H, W) or (H, W, 3) as (H, W)."""
    return image if image.ndim == 2 else image.mean(axis=-1)


def _extent(panel: Panel) -> tuple[float, float, float, float]:
    """Return the image's pixel coordinates, to which maps and reconstructions of any size are stretched."""
    height, width = panel.image.shape[:2]
    return -0.5, width - 0.5, height - 0.5, -0.5


def panel(result: Score, truth: str | None = None, mask: NDArray[np.bool_] | None = None) -> Panel:
    """Return the panel of an image that was scored with its maps and pictures."""
    image, x_hat = result.pictures
    grey = (image == image[:1]).all()
    return Panel(
        image=image[0] if grey else image.transpose(1, 2, 0),
        reconstruction=x_hat.mean(axis=0) if grey else x_hat.transpose(1, 2, 0),
        maps=dict(result.maps),
        title=panel_title(result.value, result.p_value, result.verdict, truth, result.outside),
        mask=mask,
    )
