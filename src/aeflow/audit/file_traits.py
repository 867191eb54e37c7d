"""Traits of one file for an audit: digests, perceptual hashes, a small picture, and trivial attributes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from aeflow.audit.burned_in import strokes
from aeflow.imageio.content import read_content
from aeflow.imageio.formats import recognise
from aeflow.imageio.image import Image, Slice
from aeflow.imageio.limits import LIMITS
from aeflow.imageio.reader import read_image

SIDE = 64  # side in pixels of the small picture by which copies are recognised
HASH_SIDE = 16  # 256 bits; at 64, different chest X-rays share their hash
MARGINS = (0.0, 0.02, 0.04)  # cut off each side before hashing, so that a cropped copy matches its original
BURNED_IN = "burned-in strokes"  # share of the picture that they cover
BLACK_LEVEL = 5 / 255  # up to this a pixel is black; JPEG leaves noise on pixels that were 0


@dataclass(frozen=True, slots=True)
class Traits:
    """Facts about a file that was read."""

    content: str  # SHA-256 of its bytes
    pixels: str  # SHA-256 of its decoded pixels: the same image in another container has the same
    hashes: NDArray[np.uint8]  # (3, 32): bits of the perceptual hash, of the image and cropped by each of MARGINS
    picture: NDArray[np.uint8]  # (64, 64) grey, stretched to the full range
    numbers: dict[str, float]
    names: dict[str, str]


def traits(path: Path, at: Slice | None = None) -> Traits:
    """Return the traits of one image file, or of one slice of it; ImageError if it cannot be read."""
    image = read_image(path, at=at)
    content = read_content(path, LIMITS)
    form = recognise(content).name
    pixels = np.ascontiguousarray(image.pixels)
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=-1)
    height, width = grey.shape
    small = _small(grey)
    picture = np.asarray(small.resize((SIDE, SIDE), Pillow.Resampling.BOX))
    return Traits(
        content=hashlib.sha256(content).hexdigest(),
        pixels=hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(),
        hashes=np.stack([_perceptual(small, margin) for margin in MARGINS]),
        picture=picture,
        numbers={
            "file size": float(len(content)),
            "bytes per pixel": len(content) / grey.size,
            "width": float(width),
            "height": float(height),
            "aspect ratio": width / height,
            "mean intensity": float(grey.mean(dtype=np.float64)),
            BURNED_IN: float(strokes(grey).mean()),
            "share of black pixels": float((grey <= BLACK_LEVEL).mean()),
            **_encoding(content, form),
        },
        names={"format": form, "colour": "grey" if pixels.ndim == 2 else "colour", **_acquisition(image)},
    )


def _small(grey: NDArray[np.float32]) -> Pillow.Image:
    """Return a picture (2 SIDE, 2 SIDE) of 8 bits.

    It is stretched first, so that twelve bits in a range of sixteen keep their detail.
    """
    low, high = float(grey.min()), float(grey.max())
    stretched = np.round(255 * (grey - low) / (high - low)).astype(np.uint8)
    return Pillow.fromarray(stretched).resize((2 * SIDE, 2 * SIDE), Pillow.Resampling.LANCZOS, reducing_gap=3.0)


def _perceptual(small: Pillow.Image, margin: float) -> NDArray[np.uint8]:
    """Return the bits of the perceptual hash of a picture with a margin cut off."""
    width, height = small.size
    box = (margin * width, margin * height, (1 - margin) * width, (1 - margin) * height)
    size = (4 * HASH_SIDE, 4 * HASH_SIDE)  # as phash needs it; cut and shrunk in one step, to a fraction of a pixel
    cut = small.resize(size, Pillow.Resampling.LANCZOS, box=box)
    return np.packbits(np.asarray(imagehash.phash(cut, HASH_SIDE).hash, bool).ravel())


def _acquisition(image: Image) -> dict[str, str]:
    """Return the header's facts about how the image was taken, if there are any."""
    facts = {"modality": image.modality, "photometric": image.photometric}
    return {name: value for name, value in facts.items() if value}


def _encoding(content: bytes, form: str) -> dict[str, float]:
    """Return bits per sample, and the quality of a JPEG; nothing for formats that do not have them."""
    match form:
        case "PNG":
            return {"bit depth": float(content[24])}
        case "TIFF":
            return {"bit depth": float(max(TiffImageFile(io.BytesIO(content)).tag_v2.get(258, (1,))))}
        case "JPEG":
            return {"bit depth": 8.0, "JPEG quality": _quality(JpegImageFile(io.BytesIO(content)).quantization[0])}
        case "BMP":
            return {"bit depth": 8.0}
    return {}


def _quality(table: list[int]) -> float:
    """Return the libjpeg quality whose luminance table is nearest to this one; exact for libjpeg's own tables."""
    return float(1 + np.abs(_tables() - np.array(table)).sum(axis=1).argmin())


@cache
def _tables() -> NDArray[np.int64]:
    """Return (100, 64): the luminance tables of qualities 1 to 100, as the library writes them."""
    tables = []
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Pillow.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
        tables.append(JpegImageFile(io.BytesIO(buffer.getvalue())).quantization[0])
    return np.array(tables, dtype=np.int64)
