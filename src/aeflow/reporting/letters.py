"""Letters of pictures that Pillow draws: the same on every machine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont

FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"  # matplotlib's, so that all our pictures look alike


@cache
def letters(size: float) -> ImageFont.FreeTypeFont:
    """Return the font with letters of a size in pixels."""
    return ImageFont.truetype(FONT, size, layout_engine=ImageFont.Layout.BASIC)
