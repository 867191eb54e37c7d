"""One file -> what an audit asks of it: digests, perceptual hashes, a small picture, and trivial attributes."""

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

from aeflow.imageio.formats import recognise
from aeflow.imageio.image import Image, Slice
from aeflow.imageio.reader import read_image

SIDE = 64  # pixels of the small picture that copies are told by
HASH_SIDE = 16  # 256 bits; at 64, different chest X-rays share their hash
MARGINS = (0.0, 0.02, 0.04)  # cut off each side before hashing, so that a copy that was cropped meets its original
BLACK = 5 / 255  # up to this a pixel is black; JPEG leaves noise on what was 0


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a file once it was read."""

    content: str  # SHA-256 of its bytes
    pixels: str  # SHA-256 of its decoded pixels: the same image in another container has the same
    hashes: NDArray[np.uint8]  # (3, 32): bits of the perceptual hash, of the image and cropped by each of MARGINS
    picture: NDArray[np.uint8]  # (64, 64) grey, stretched to the full range
    numbers: dict[str, float]
    names: dict[str, str]


def traits(path: Path, at: Slice | None = None) -> Traits:
    """The traits of one image file, or of one slice of it; ImageError where it cannot be read."""
    image = read_image(path, at=at)
    content = path.read_bytes()
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
            "share of black pixels": float((grey <= BLACK).mean()),
            **_stored(content, form),
        },
        names={"format": form, "colour": "grey" if pixels.ndim == 2 else "colour", **_said(image)},
    )


def _small(grey: NDArray[np.float32]) -> Pillow.Image:
    """(2 SIDE, 2 SIDE) of 8 bits; stretched first, so that twelve bits in a range of sixteen keep their detail."""
    low, high = float(grey.min()), float(grey.max())
    stretched = np.round(255 * (grey - low) / (high - low)).astype(np.uint8)
    return Pillow.fromarray(stretched).resize((2 * SIDE, 2 * SIDE), Pillow.Resampling.LANCZOS, reducing_gap=3.0)


def _perceptual(small: Pillow.Image, margin: float) -> NDArray[np.uint8]:
    width, height = small.size
    box = (margin * width, margin * height, (1 - margin) * width, (1 - margin) * height)
    size = (4 * HASH_SIDE, 4 * HASH_SIDE)  # what phash asks for; cut and shrunk in one step, to a fraction of a pixel
    cut = small.resize(size, Pillow.Resampling.LANCZOS, box=box)
    return np.packbits(np.asarray(imagehash.phash(cut, HASH_SIDE).hash, bool).ravel())


def _said(image: Image) -> dict[str, str]:
    """What a header says of how the image was taken, where there is one."""
    said = {"modality": image.modality, "photometric": image.photometric}
    return {name: value for name, value in said.items() if value}


def _stored(content: bytes, form: str) -> dict[str, float]:
    """Bits a sample, and the quality of a JPEG; nothing for formats that do not say."""
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
    """The libjpeg quality whose luminance table is nearest to this one; exact where libjpeg's tables were used."""
    return float(1 + np.abs(_tables() - np.array(table)).sum(axis=1).argmin())


@cache
def _tables() -> NDArray[np.int64]:
    """(100, 64): the luminance tables of qualities 1 to 100, as the library writes them."""
    tables = []
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Pillow.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
        tables.append(JpegImageFile(io.BytesIO(buffer.getvalue())).quantization[0])
    return np.array(tables, dtype=np.int64)
