"""Panels: what a picture of a score shows, and the sizes that all such pictures share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aeflow.errors import DataError
from aeflow.reporting.p_value import p_term
from aeflow.reporting.palette import WIDTH

Array = NDArray[np.floating[Any]]
GAP, TITLE, HEAD, BAR = 0.08, 0.32, 0.26, 0.66  # inches: between cells, and heights of lines, heads and colour bars
TITLE_SIZE = 10  # points
DPI = 120  # shows an image of 224 pixels at about its own size
HEAD_SIZE, TICK_SIZE = 10.5, 8  # points
BAR_TOP, BAR_WIDTH, BAR_HEIGHT = 0.1, 0.94, 0.13  # of a colour bar: inches, share of its cell, inches


class Drawn(Protocol):
    """Interface of a score that is drawn with its maps: ``Score`` draws itself, so this wing does not know it."""

    @property
    def value(self) -> float:
        """The score."""

    @property
    def p_value(self) -> float:
        """Its p-value."""

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that its model can give."""

    @property
    def verdict(self) -> str:
        """Its verdict."""

    @property
    def outside(self) -> tuple[str, ...]:
        """Why not to rely on it; empty if there is no such reason."""

    @property
    def maps(self) -> Mapping[str, Array]:
        """Its maps, (H, W) each."""

    @property
    def image(self) -> NDArray[np.uint8] | None:
        """The image as the network saw it, (H, W) or (H, W, 3); None without maps."""

    @property
    def pictures(self) -> tuple[Array, ...]:
        """The image and its reconstruction, (3, H, W) each in [0, 1]; none if they were not asked for."""


@dataclass(frozen=True)
class Panel:
    """One image of a gallery: image and reconstruction (H, W) or (H, W, 3) in [0, 1], maps (H, W), mask (H, W)."""

    image: Array
    reconstruction: Array | None
    maps: dict[str, Array]
    title: str
    mask: NDArray[np.bool_] | None = None


def panel_title(result: Drawn, truth: str | None = None) -> str:
    """Return the line above a panel: score, p-value, verdict, the truth if known, and why not to rely on it."""
    known = f"   ·   truth: {truth}" if truth else ""
    warned = f"   ·   OUTSIDE INTENDED INPUT: {', '.join(result.outside)}" if result.outside else ""
    p = p_term(result.p_value, result.smallest_p)
    return f"score {result.value:.3g}   ·   {p}   ·   called {result.verdict}{known}{warned}"


def heads_of(maps: Sequence[str], reconstructed: bool = True) -> list[str]:
    """Return the headings of the columns: input, reconstruction if there is one, and each map."""
    return ["input", *(["reconstruction"] if reconstructed else []), *(f"{name} map" for name in maps)]


def cell_of(columns: int) -> float:
    """Return the width of a cell in inches, so that three columns or more fill the width of a figure."""
    return (WIDTH + GAP) / max(columns, 3) - GAP


def check_scales(names: Sequence[str], scales: Mapping[str, tuple[float, float]]) -> None:
    """Raise DataError for a map without a scale."""
    for name in names:
        if name not in scales or not scales[name][0] < scales[name][1]:
            raise DataError("gallery", f"no scale (low < high) for the map '{name}'", "fit one on held-out normals")


def ends_of(low: float, high: float) -> tuple[str, str]:
    """Return what stands below the two ends of a colour bar, two lines each."""
    return f"{low:.3g}\nin 90 % of normals", f"{high:.3g}\nin 99.9 %"


def panel(result: Drawn, truth: str | None = None, mask: NDArray[np.bool_] | None = None) -> Panel:
    """Return the panel of an image that was scored with its maps, with its reconstruction if that was asked for."""
    if result.pictures:
        image, x_hat = result.pictures
        grey = (image == image[:1]).all()
        shown = image[0] if grey else image.transpose(1, 2, 0)
        reconstruction = x_hat.mean(axis=0) if grey else x_hat.transpose(1, 2, 0)
    else:
        assert result.image is not None  # it is kept with the maps
        shown, reconstruction = result.image / np.float32(255), None
    return Panel(
        image=shown,
        reconstruction=reconstruction,
        maps=dict(result.maps),
        title=panel_title(result, truth),
        mask=mask,
    )


def grey(image: Array) -> Array:
    """Return an image (H, W) or (H, W, 3) as (H, W)."""
    return image if image.ndim == 2 else image.mean(axis=-1)
