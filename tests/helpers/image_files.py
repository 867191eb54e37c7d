"""Image files written byte by byte, so that tests know what every pixel is without asking the reader's library."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 40, 48
ORIENTED = {  # EXIF orientation -> how the stored pixels look when shown
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}


def noise(dtype: str, *channels: int, seed: int = 0) -> NDArray:
    """Return pixels (HEIGHT, WIDTH, *channels) over an integer type's full range, or over [-50, 50]."""
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    if kind.kind == "f":
        return rng.uniform(-50, 50, (HEIGHT, WIDTH, *channels)).astype(kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return rng.integers(low, high, (HEIGHT, WIDTH, *channels), dtype=kind, endpoint=True)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixels: NDArray, colour: int, *, extra: bytes = b"", size: tuple[int, int] | None = None) -> bytes:
    """Return an 8- or 16-bit PNG with ``extra`` chunks; colour 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA."""
    height, width = size or pixels.shape[:2]
    depth = 8 * pixels.dtype.itemsize
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(pixels.dtype.newbyteorder(">")))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def tiff(
    pixels: NDArray,
    *,
    big_endian: bool = False,
    compressed: bool = False,
    photometric: int = 1,
    bits: int | None = None,
    data: bytes | None = None,
    tags: dict[int, list[int]] | None = None,
    size: tuple[int, int] | None = None,
) -> bytes:
    """Return a one-strip TIFF of any sample type; ``data`` replaces the packed pixels, ``tags`` are added as shorts."""
    order = ">" if big_endian else "<"
    height, width = size or pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes() if data is None else data
    data = zlib.compress(data) if compressed else data
    entries = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits or 8 * pixels.dtype.itemsize] * channels),
        259: ("H", [8 if compressed else 1]),
        262: ("H", [photometric]),
        273: ("I", [8]),
        277: ("H", [channels]),
        278: ("I", [height]),
        279: ("I", [len(data)]),
        339: ("H", [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]] * channels),
        **{tag: ("H", values) for tag, values in (tags or {}).items()},
    }
    start = 8 + len(data)
    outside = start + 2 + 12 * len(entries) + 4
    directory, tail = struct.pack(order + "H", len(entries)), b""
    for tag, (kind, values) in sorted(entries.items()):
        value = struct.pack(order + kind * len(values), *values)
        if len(value) > 4:
            pointer = struct.pack(order + "I", outside + len(tail))
            value, tail = pointer, tail + value
        directory += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + value.ljust(4, b"\0")
    head = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "I", start)
    return head + data + directory + struct.pack(order + "I", 0) + tail
