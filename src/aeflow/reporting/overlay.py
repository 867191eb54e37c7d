"""Overlays: an image at its own size under the colours of its anomaly map, and the strip of words below it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw

from aeflow._types import Floats32
from aeflow.reporting.heat_colours import HEAT, ramp_of
from aeflow.reporting.letters import letters

Bytes = NDArray[np.uint8]
PAPER, INK = (16, 16, 16), (235, 235, 235)
MAX_LINE_WIDTH = 0.96  # share of the width that the longest line may take
MIN_LETTER, MAX_LETTER = 9, 1 / 40  # height of letters in pixels, and as a share of the width
BAR_HEIGHT, LINE = 0.7, 1.5  # in heights of letters
MIN_STRIP = 380  # pixels of a strip's width; words in less cannot be read
BAND = 256  # rows that are coloured at a time: an image may have a hundred million pixels


def resample(score_map: Floats32, shape: tuple[int, int]) -> Floats32:
    """Return a map (H, W) at ``shape`` (rows, columns): bilinear, antialiased if it shrinks."""
    rows, columns = shape
    resized = PIL.Image.fromarray(score_map).resize((columns, rows), PIL.Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


def blend(pixels: Floats32, score_map: Floats32, scale: tuple[float, float]) -> Bytes:
    """Draw the image (H, W) or (H, W, 3) in [0, 1] in grey under the colours of its map (h, w): RGB (H, W, 3).

    Clear at ``low`` and below, full at ``high`` and above, as the galleries colour it; the map is resampled to all
    pixels.
    """
    (low, high), steps, heat = scale, len(HEAT), HEAT.astype(np.float32)
    values = resample(score_map, pixels.shape[:2])
    mixed = np.empty((*pixels.shape[:2], 3), np.uint8)
    for top in range(0, len(mixed), BAND):
        rows = slice(top, top + BAND)
        grey = pixels[rows] if pixels.ndim == 2 else pixels[rows].mean(axis=-1, dtype=np.float32)
        level = (values[rows] - low) / (high - low)
        colour = heat[(level * steps).clip(0, steps - 1).astype(np.intp)]
        band = grey[..., None] + colour[..., 3:] * (colour[..., :3] - grey[..., None])
        mixed[rows] = (255 * band.clip(0, 1)).round()
    return mixed


def with_strip(picture: Bytes, lines: Sequence[str], scale: tuple[float, float]) -> Bytes:
    """Return a picture (H, W, 3) with a strip of words below it, which is wider than a very narrow one."""
    strip = caption(max(picture.shape[1], MIN_STRIP), lines, scale)
    beside = np.full((len(picture), strip.shape[1] - picture.shape[1], 3), PAPER, np.uint8)
    return np.concatenate([np.concatenate([picture, beside], axis=1), strip])


def caption(width: int, lines: Sequence[str], scale: tuple[float, float]) -> Bytes:
    """Draw a band (height, width, 3) to go below a picture: lines of text, then the colour bar between its two ends."""
    low, high = (f"{end:.3g}" for end in scale)
    left, right = f"{low} (in 90 % of normals)", f"{high} (in 99.9 %)"
    widest = max(letters(100).getlength(text) for text in (*lines, f"{left}{' ' * 20}{right}"))
    size = max(MIN_LETTER, int(min(width * MAX_LETTER, 100 * MAX_LINE_WIDTH * width / widest)))
    font, step, margin = letters(size), round(LINE * size), size // 2
    band = PIL.Image.new("RGB", (width, step * (len(lines) + 1) + margin), PAPER)
    draw = ImageDraw.Draw(band)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * step), line, INK, font)
    top = margin + len(lines) * step
    draw.text((margin, top), left, INK, font)
    draw.text((width - margin, top), right, INK, font, anchor="ra")
    start = round(margin + font.getlength(left + " "))
    stop = round(width - margin - font.getlength(right + " "))
    if stop > start:
        ramp = ramp_of(stop - start)[None]
        band.paste(PIL.Image.fromarray(ramp.repeat(round(BAR_HEIGHT * size), axis=0)), (start, top + size // 4))
    return np.asarray(band)
