"""Pictures that the service keeps of an image, and the pixels that it sends to a reader."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from aeflow.imageio.image import Slice
from aeflow.imageio.reader import read_image
from aeflow.reporting.heat_colours import HEAT, ramp_of
from aeflow.scoring.scorer import Score

THUMBNAIL = 112  # pixels of a side
MOST_PIXELS = 2048  # of a side, that are sent to a reader
FEATURE_SIDE = 10  # cells of a side of the small pictures that stand for an image among others
BAR_HEIGHT = 128  # pixels
_COLOURS = np.rint(255 * HEAT).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Pixels:
    """An image at its own size, or less if it is larger than a screen: grey in 16 bits, or colour in 8."""

    height: int
    width: int
    channels: int
    content: bytes  # uint16 little-endian (H, W), or uint8 (H, W, 3)


def thumbnail(score: Score) -> bytes:
    """Return the image as the network saw it, as a small JPEG."""
    assert score.image is not None  # it was scored with its map
    return _written(PIL.Image.fromarray(score.image).resize((THUMBNAIL, THUMBNAIL)), "jpeg", quality=75)


def heat_map(score: Score) -> bytes:
    """Return the anomaly map in the colours of the model's fixed scale, clear where it is as in normals, as PNG."""
    found = levels(score)
    picture = PIL.Image.frombytes("P", (found.shape[1], found.shape[0]), found.tobytes())
    picture.putpalette(_COLOURS[:, :3].tobytes())
    return _written(picture, "png", transparency=_COLOURS[:, 3].tobytes(), compress_level=3)


@cache
def colour_bar() -> str:
    """Return the colours of the map as a picture (BAR_HEIGHT, 1), the high end above, as an address for ``img``."""
    content = _written(PIL.Image.fromarray(ramp_of(BAR_HEIGHT)[::-1, None]), "png")
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def levels(score: Score) -> NDArray[np.uint8]:
    """Return the anomaly map (H, W) in 256 steps of the model's fixed scale."""
    assert score.map is not None
    low, high = score.map_limits["anomaly"]
    steps: NDArray[np.uint8] = np.rint(255 * np.clip((score.map - low) / (high - low), 0, 1)).astype(np.uint8)
    return steps


def features(score: Score) -> bytes:
    """Return what stands for an image where images are compared: it and its map, both small, as float16."""
    assert score.image is not None
    seen = PIL.Image.fromarray(score.image).convert("L")
    parts = [_small(seen), _small(PIL.Image.fromarray(levels(score)))]
    return np.concatenate(parts).astype("<f2").tobytes()


def load_pixels(path: Path, at: Slice | None) -> Pixels:
    """Read an image as it is shown to a reader; ImageError. For a decoder's process."""
    found = read_image(path, at=at).pixels
    height, width = found.shape[:2]
    shrink = max(1.0, max(height, width) / MOST_PIXELS)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    channels = [found] if found.ndim == 2 else list(np.moveaxis(found, -1, 0))
    if shrink > 1:
        scaled = [PIL.Image.fromarray(one).resize(size, PIL.Image.Resampling.BILINEAR) for one in channels]
        channels = [np.asarray(one) for one in scaled]
    if len(channels) == 1:
        grey: NDArray[Any] = np.rint(65535 * channels[0].clip(0, 1)).astype("<u2")
        return Pixels(size[1], size[0], 1, grey.tobytes())
    colour = np.rint(255 * np.stack(channels, axis=-1).clip(0, 1)).astype(np.uint8)
    return Pixels(size[1], size[0], 3, colour.tobytes())


def _small(picture: PIL.Image.Image) -> NDArray[np.float32]:
    """Return a grey picture in a few cells, in [0, 1]."""
    cells = picture.resize((FEATURE_SIDE, FEATURE_SIDE), PIL.Image.Resampling.BOX)
    return np.asarray(cells, np.float32).ravel() / np.float32(255)


def _written(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()
