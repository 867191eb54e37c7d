"""Burned-in text and side markers: thin, short, very bright strokes in a picture."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy import ndimage

SIDE, CELL = 224, 2  # pixels a side at which it looks, and of the cells whose brightest pixel it keeps: of thin strokes
SQUARE = 5  # cells a side of the square that no stroke of a letter fills
LINE = 14.0  # cells that no letter is long in any direction, and ribs, the skull's rim are
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))  # (rows, columns) of a step
THIN, SHORT, BRIGHT = 0.3, 0.25, 0.7  # above what fills the square, above what is long, of the brightest pixel
LEAST = 4  # cells of a stroke: fewer are noise


def strokes(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where a picture (H, W) in [0, 1] has such strokes, (SIDE / CELL, SIDE / CELL).

    White top-hats ``x - open(x)`` (Serra, 1982): of a square, which has all that is thin, and of lines in eight
    directions, which has all that is short. The region ``body`` leaves out the same, in a form that a graph can hold. A
    word whose letters touch in the small picture is as long as a rib, and is missed.
    """
    small = np.asarray(Pillow.fromarray(grey).resize((SIDE, SIDE), Pillow.Resampling.BILINEAR))
    cells = small.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).max(axis=(1, 3))
    thick = ndimage.grey_opening(cells, size=SQUARE, mode="constant")
    dilated = ndimage.grey_dilation(cells, size=3, mode="constant")
    openings = (ndimage.grey_opening(dilated, footprint=_line(step), mode="constant") for step in DIRECTIONS)
    long = np.maximum.reduce(list(openings))
    found = (cells - thick > THIN) & (cells - long > SHORT) & (cells > BRIGHT * cells.max())
    parts, n = ndimage.label(found, structure=np.ones((3, 3)))
    sizes = ndimage.sum_labels(found, parts, np.arange(1, n + 1))
    kept: NDArray[np.bool_] = np.isin(parts, 1 + np.flatnonzero(np.asarray(sizes) >= LEAST))
    return kept


def _line(step: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a line of LINE cells along a step, as the pixels of the least square that holds it."""
    n = max(2, round(LINE / math.hypot(*step)))
    rows, columns = ((n - 1) * abs(length) + 1 for length in step)
    line = np.zeros((rows, columns), np.bool_)
    at = np.arange(n)
    line[at * abs(step[0]), at * abs(step[1])] = True
    return line if step[1] >= 0 else line[:, ::-1]
