"""Pictures of single scores, as ``gallery`` would draw them, many a second and without matplotlib.

The frame is drawn once: headings, colour bars, margins. Each score's image, reconstruction, maps and title are pasted
into a copy of it.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from aeflow.reporting.heat_colours import HEAT, ramp_of
from aeflow.reporting.letters import letters
from aeflow.reporting.palette import INK, MUTED, PAPER
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
    Drawn,
    cell_of,
    check_scales,
    ends_of,
    grey,
    heads_of,
    panel,
)
from aeflow.runtime.files import write_bytes

Picture = Image.Image

_heat = np.rint(255 * HEAT).astype(int)
# colour and opacity of a map's values, in 256 steps
COLOURS, ALPHA = _heat[:, :3].ravel().tolist(), _heat[:, 3].tolist()

POINT = DPI / 72  # pixels
POINTED = 0.05  # share of a colour bar that is its tip
WRITERS = 2  # threads: compressing and writing release Python's lock
WAITING = 8  # pictures that are drawn or wait for it, some two megabytes each


class Frame:
    """Static frame (headings, colour bars) that all score pictures of one model share: a gallery's of one row.

    ``size`` is the side in pixels of the model's images, which are square.
    """

    def __init__(self, map_scales: Mapping[str, tuple[float, float]], size: int, reconstructed: bool = True) -> None:
        """Draw the frame, with a place for the reconstruction or without; DataError for a map without a scale."""
        check_scales(list(map_scales), map_scales)
        self.map_scales = dict(map_scales)
        heads = heads_of(list(map_scales), reconstructed)
        inches = cell_of(len(heads))
        step, top = inches + GAP, HEAD + TITLE
        width, height = len(heads) * step - GAP, top + inches + GAP + BAR
        self._blank = Image.new("RGB", (pixels_of(width), pixels_of(height)), PAPER)
        self.cell = pixels_of(inches), pixels_of(inches)
        self.corners = [(pixels_of(column * step), pixels_of(top)) for column in range(len(heads))]
        self._title = 0.003 * self._blank.width, DPI * (HEAD + 0.6 * TITLE)
        self._caption = (
            self._title[0],
            DPI * (height - BAR + BAR_TOP),
        )  # beside the colour bars
        self._font = letters(TITLE_SIZE * POINT)
        draw = ImageDraw.Draw(self._blank)
        for column, head in enumerate(heads):
            middle = DPI * (column * step + inches / 2), DPI * HEAD / 2
            draw.text(middle, head, INK, letters(HEAD_SIZE * POINT), anchor="mm", stroke_width=0.4)  # bold
        for column, (low, high) in enumerate(map_scales.values(), 1 + reconstructed):
            left = column * step + (1 - BAR_WIDTH) / 2 * inches
            self._draw_bar(draw, left, BAR_WIDTH * inches, height - BAR + BAR_TOP, ends_of(low, high))

    def _draw_bar(self, draw: ImageDraw.ImageDraw, left: float, wide: float, top: float, ends: tuple[str, str]) -> None:
        """Draw a colour bar, places in inches: pointed where it goes on, its ends named below it."""
        x, y, tip = DPI * left, DPI * top, DPI * wide * POINTED
        width, tall = pixels_of((1 - POINTED) * wide), pixels_of(BAR_HEIGHT)
        ramp = ramp_of(width)[None].repeat(tall, axis=0)
        self._blank.paste(Image.fromarray(ramp), (round(x), round(y)))
        point = [(x + width, y), (x + width + tip, y + tall / 2), (x + width, y + tall - 1)]
        draw.polygon(point, tuple(ramp[0, -1].tolist()))
        font, below = letters(TICK_SIZE * POINT), y + tall + 4 * POINT
        draw.multiline_text((x, below), ends[0], MUTED, font, anchor="la")
        draw.multiline_text((x + width, below), ends[1], MUTED, font, anchor="ra", align="right")

    def picture(self, result: Drawn, caption: Sequence[str] = ()) -> Picture:
        """Return the picture of a score with its maps; may be called by several threads at once."""
        shown = panel(result)
        picture = self._blank.copy()
        image = self._fitted(shown.image)
        below = image if image.mode == "L" else self._fitted(grey(shown.image))
        cells = [image] if shown.reconstruction is None else [image, self._fitted(shown.reconstruction)]
        for corner, pixels in zip(self.corners, cells, strict=False):
            picture.paste(pixels, corner)
        for corner, (name, (low, high)) in zip(self.corners[len(cells) :], self.map_scales.items(), strict=True):
            value = self._fitted((shown.maps[name] - low) / (high - low))
            alpha = value.point(ALPHA)
            value.putpalette(COLOURS)
            picture.paste(below, corner)
            picture.paste(value.convert("RGB"), corner, alpha)
        title = self.shortened(shown.title)
        draw = ImageDraw.Draw(picture)
        draw.text(self._title, title, INK, self._font, anchor="lm")
        draw.multiline_text(self._caption, "\n".join(caption), MUTED, letters(TICK_SIZE * POINT))
        return picture

    def _fitted(self, image: NDArray[np.floating[Any]]) -> Picture:
        """Return an image (H, W) or (H, W, 3) in [0, 1] in the size of a cell, in 256 steps; others are clipped."""
        steps = Image.fromarray(np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8))
        return steps.resize(self.cell, Image.Resampling.BILINEAR)

    def shortened(self, title: str) -> str:
        """Return the title, without its last words if it is too long; the table has all of them."""
        room, words = self._blank.width - 2 * self._title[0], title.split(" ")
        while self._font.getlength(title) > room and len(words) > 1:
            words.pop()
            title = " ".join(words).rstrip(" ,:·") + " …"
        return title


def pixels_of(inches: float) -> int:
    """Return a length in whole pixels."""
    return round(DPI * inches)


@contextmanager
def written(waiting: int = WAITING) -> Iterator[Callable[[Path, Callable[[], NDArray[np.uint8]]], None]]:
    """Yield a function that draws a picture and writes it as PNG, in the background; at the end all files are complete.

    The names of the files are the caller's to ``sync_folder``.

    A call waits while so many pictures are under way, and raises the error of an earlier one, if any; so does the
    end.
    """
    under_way: deque[Future[None]] = deque()

    def draw(path: Path, picture: Callable[[], NDArray[np.uint8]]) -> None:
        if len(under_way) == waiting:
            under_way.popleft().result()
        under_way.append(pool.submit(lambda: write_bytes(path, encoded(picture()), sync_name=False)))

    with ThreadPoolExecutor(WRITERS, "picture") as pool:
        try:
            yield draw
            while under_way:
                under_way.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture (H, W, 3) as PNG, each row as its difference from the one above.

    Half the time of Pillow, which tries five such filters on every row to save 2 % of the bytes
    (https://www.w3.org/TR/png-3/#9Filters).
    """
    height, width, _ = pixels.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 2  # the filter's number
    rows[:, 1:] = pixels.reshape(height, -1)
    rows[1:, 1:] -= pixels.reshape(height, -1)[:-1]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits a sample, RGB
    parts = (
        (b"IHDR", header),
        (b"tEXt", b"Software\0aeflow"),
        (b"IDAT", zlib.compress(rows.tobytes(), 1)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in parts
    )
