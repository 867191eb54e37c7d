"""Hostile files by the thousand, from a seed: cut, flipped, spliced, lied about, bombs, loops and bottomless nesting.

    PYTHONPATH=tests python -m helpers.hostile_files FOLDER

writes them all. Seeds that have room for text carry the patient's name ``CANARY``, which no refusal may repeat.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from helpers.hostile_seeds import (
    CANARY,
    SYNTAXES,
    deflate,
    dicom,
    element,
    gzipped,
    meta_length,
    packed_png,
    pillow,
    seeds,
    zeros,
)
from helpers.image_files import chunk, noise, png, tiff
from helpers.nifti_files import nifti

HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)


def corpus(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of all hostile files, the same for the same seed."""
    rng = np.random.default_rng(seed)
    good = seeds()
    for each in good:
        for number, inner in enumerate(_damaged(each.inner, rng)):
            yield f"{each.name}-{number:03}", each.wrap(inner)
    for number in range(60):  # the head of one kind on the body of another
        first, second = rng.choice(len(good), 2, replace=False)
        head, tail = good[first].content, good[second].content
        yield f"chimera-{number:03}", head[: rng.integers(4, len(head))] + tail[rng.integers(len(tail)) :]
    yield from _bombs()
    yield from _lies()
    yield from _mazes()
    yield from _oddities()


def _damaged(inner: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    yield from (inner[: len(inner) * part // 50] for part in range(50))
    edge = min(len(inner), 400)
    for number in range(50):  # single bits, half of them where headers stand
        at = int(rng.integers(edge if number % 2 else len(inner)))
        yield inner[:at] + bytes([inner[at] ^ 1 << int(rng.integers(8))]) + inner[at + 1 :]
    for number in range(40):  # numbers
        width = (1, 2, 4, 8)[number % 4]
        value = int(rng.choice(np.array(HUGE, np.uint64))) & ((1 << 8 * width) - 1)
        at = int(rng.integers(max(1, edge - width)))
        yield inner[:at] + value.to_bytes(width, ("little", "big")[number % 8 // 4]) + inner[at + width :]
    for number in range(20):  # blocks left out, doubled, moved, repeated often
        start, end = np.sort(rng.integers(len(inner) + 1, size=2)).tolist()
        at = int(rng.integers(len(inner)))
        block = inner[start:end]
        yield (
            inner[:start] + inner[end:],
            inner[:end] + inner[start:],
            inner[:at] + block + inner[at + len(block) :],
            inner[:at] + block[:40] * 200 + inner[at:],
        )[number % 4]


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Yield little that unfolds to much, within what the header says and beyond it."""
    for side in (4000, 14_000):
        rows = zeros(side * (side + 1))
        yield f"bomb-png-{side}", packed_png(struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), rows, packed=True)
        flat = tiff(noise("u1"), data=zeros(side * side), tags={}, size=(side, side))
        at = flat.index(struct.pack("<HHI", 259, 3, 1)) + 8
        yield f"bomb-tiff-{side}", flat[:at] + struct.pack("<H", 8) + flat[at + 2 :]
    yield "bomb-png-beyond", packed_png(struct.pack(">IIBBBBB", 48, 40, 8, 0, 0, 0, 0), zeros(2**28), packed=True)
    text = chunk(b"zTXt", b"Comment\0\0" + zeros(2**28)) + chunk(b"iCCP", b"p\0\0" + zeros(2**28))
    yield "bomb-png-text", png(noise("u1"), 0, extra=text)
    jpeg = pillow(np.zeros((2000, 2000), np.uint8), "L", "JPEG", progressive=True)
    scan = jpeg.rindex(b"\xff\xda")
    yield "bomb-jpeg-scans", jpeg[:scan] + jpeg[scan:-2] * 2000 + b"\xff\xd9"
    volume = np.zeros((4, 4, 4), "u1")
    for name, shape in (("true", (300, 300, 900)), ("huge", (3000, 3000, 3000)), ("small", (4, 4, 4))):
        head = nifti(volume, dim=(3, *shape, 1, 1, 1, 1), data=b"")
        yield f"bomb-nifti-{name}", gzipped(head, 2**28 if name == "small" else min(int(np.prod(shape)), 2**28))
    good = dicom(DeflatedExplicitVRLittleEndian)
    meta = meta_length(good)
    inside = zlib.decompress(good[meta:], wbits=-15)
    yield "bomb-dicom-after", good[:meta] + deflate(inside, then=2**28)
    pixels = inside.index(b"\xe0\x7f\x10\x00")
    yield "bomb-dicom-pixels", good[:meta] + deflate(inside[:pixels] + element(0x7FE00010, b"OW", 2**28), then=2**28)
    yield "bomb-dicom-text", good[:meta] + deflate(element(0x00081030, b"UT", 2**28), then=2**28)
    for frames in (900, 2**31 - 1):
        yield f"bomb-dicom-rle-{frames}", dicom(RLELossless, Rows=60_000, Columns=60_000, NumberOfFrames=frames)


def _lies() -> Iterator[tuple[str, bytes]]:
    """Yield sizes that are huge, zero, negative, or do not agree with what follows."""
    numbers = (0, 1, 31, 33, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
    for width in numbers:
        for height in (40, width):
            yield f"lie-png-{width}-{height}", png(noise("u1"), 0, size=(height, width))
            yield f"lie-tiff-{width}-{height}", tiff(noise("u1"), size=(height, width))
            bmp = pillow(noise("u1"), "L", "BMP")
            yield f"lie-bmp-{width}-{height}", bmp[:18] + struct.pack("<II", width, height) + bmp[26:]
            jpeg = pillow(noise("u1"), "L", "JPEG")
            at = jpeg.index(b"\xff\xc0") + 5
            yield (
                f"lie-jpeg-{width}-{height}",
                jpeg[:at] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + jpeg[at + 4 :],
            )
    volume = np.ones((33, 34, 6), "u1")
    sides = (-(2**15), -1, 0, 1, 32, 2**15 - 1)
    for number, side in enumerate(sides):
        for place in range(8):
            dim = [3, 33, 34, 6, 1, 1, 1, 1]
            dim[place] = side
            yield f"lie-nifti-{number}-{place}", nifti(volume, dim=dim, zipped=bool(place % 2))
    for number, value in enumerate((-1e30, -1, 0, 348, 353.5, 1e30, float("nan"), float("inf"), 3e-45)):
        for field in ("vox_offset", "scl_slope", "scl_inter"):
            yield f"lie-nifti-{field}-{number}", nifti(np.arange(64, dtype="i2").reshape(4, 4, 4), **{field: value})
        yield f"lie-nifti-srow-{number}", nifti(volume, srow=[value] * 12)
        yield f"lie-nifti-pixdim-{number}", nifti(volume, sform_code=0, qform_code=1, pixdim=[value] * 8)
    for name, values in {
        "Rows": (0, 1, 39, 41, 65535),
        "Columns": (0, 1, 47, 49, 65535),
        "BitsAllocated": (0, 1, 8, 12, 24, 32, 64, 65535),
        "BitsStored": (0, 1, 9, 16, 17, 65535),
        "HighBit": (0, 1, 65535),
        "SamplesPerPixel": (0, 2, 3, 4, 65535),
        "PixelRepresentation": (1, 2, 65535),
        "NumberOfFrames": (-1, 0, 2, 10**6, 2**31 - 1),
        "PhotometricInterpretation": ("", "RGB", "YBR_FULL_422", "PALETTE COLOR", "MONOCHROME3", CANARY.decode()),
        "RescaleSlope": ("0", "-1", "1e308", "1E-320", "nan", "inf"),
        "WindowWidth": ("0", "-5", "1e-300", "nan", "inf"),
    }.items():
        for value in values:
            for syntax in ("explicit", "rle", "jpeg"):
                yield f"lie-dicom-{name}-{values.index(value)}-{syntax}", dicom(SYNTAXES[syntax], **{name: value})


def _mazes() -> Iterator[tuple[str, bytes]]:
    """Yield ways without an end: loops of directories, sequences in sequences, lengths that nothing closes."""
    flat = tiff(noise("u1"))
    directory = struct.unpack("<I", flat[4:8])[0]
    following = directory + 2 + 12 * struct.unpack("<H", flat[directory : directory + 2])[0]
    yield "maze-tiff-self", flat[:following] + struct.pack("<I", directory) + flat[following + 4 :]
    second = flat[:following] + struct.pack("<I", len(flat)) + flat[following + 4 :]
    yield "maze-tiff-two", second + flat[directory:following] + struct.pack("<I", directory)
    chain = b"".join(struct.pack("<HHHIIIH", 1, 256, 4, 1, 1, len(flat) + 18 * (i + 1), 0)[:18] for i in range(50_000))
    yield "maze-tiff-chain", flat[:following] + struct.pack("<I", len(flat)) + flat[following + 4 :] + chain
    yield "maze-tiff-entries", flat[:directory] + struct.pack("<H", 65535) + flat[directory + 2 : following] * 500
    for tag in (256, 258, 273, 279):
        at = flat.index(struct.pack("<HH", tag, 4 if tag in (256, 273, 279) else 3)) + 4
        for count in (0, 2**16, 2**31 - 1, 2**32 - 1):
            yield f"maze-tiff-count-{tag}-{count}", flat[:at] + struct.pack("<I", count) + flat[at + 4 :]
    yield "maze-png-chunks", png(noise("u1"), 0, extra=chunk(b"tEXt", b"a\0b") * 100_000)
    for name in ("explicit", "implicit"):
        content = dicom(SYNTAXES[name])
        meta, pixels = meta_length(content), content.index(b"\xe0\x7f\x10\x00")
        for depth in (20, 900, 10_000):
            for closed in (True, False):
                nest = _nest(depth, explicit=name == "explicit", closed=closed)
                yield f"maze-dicom-nested-{name}-{depth}-{closed}", content[:meta] + nest + content[meta:]
                yield f"maze-dicom-nested-last-{name}-{depth}-{closed}", content[:pixels] + nest + content[pixels:]
    content = dicom(JPEGBaseline8Bit)
    pixels = content.index(b"\xe0\x7f\x10\x00")
    before = content[:pixels]
    endless = element(0x7FE00010, b"OB", 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    yield "maze-dicom-never-ends", before + endless + item * 100_000
    yield "maze-dicom-one-item", before + endless + item + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFE)
    yield "maze-dicom-item-undefined", before + endless + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) * 1000
    for vr in (b"UN", b"OB", b"SQ", b"UT", b"OW", b"ZZ"):
        open_end = element(0x00091010, vr, 0xFFFFFFFF)
        yield f"maze-dicom-undefined-{vr.decode()}", content[: meta_length(content)] + open_end + content[200:]
        yield f"maze-dicom-undefined-{vr.decode()}-alone", content[: meta_length(content)] + open_end
    tiny = b"".join(struct.pack("<HH2sH", 0x0009 + 2 * (i >> 16), i & 0xFFFF, b"LO", 0) for i in range(300_000))
    explicit = dicom(ExplicitVRLittleEndian)
    yield "maze-dicom-elements", explicit[: meta_length(explicit)] + tiny
    yield "maze-dicom-meta-only", explicit[: meta_length(explicit)]


def _nest(depth: int, explicit: bool, closed: bool) -> bytes:
    tag = struct.pack("<HH", 0x0040, 0xA730)
    sequence = tag + (b"SQ\0\0" if explicit else b"") + b"\xff\xff\xff\xff"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return (sequence + item) * depth + (ends * depth if closed else b"")


def _oddities() -> Iterator[tuple[str, bytes]]:
    """Yield what careless writers leave: text that is no number, stray delimiters, empty tables, wrong names."""
    texts = ("", "\0", " ", "\\", "1,5", "1,5,5", "nan", "-inf", "A1", "1e999", "9" * 5000, "\xff\xfe", CANARY.decode())
    names = "WindowCenter WindowWidth RescaleSlope RescaleIntercept PixelSpacing SliceLocation InstanceNumber"
    for name in names.split():
        for number, text in enumerate(texts):
            yield (
                f"odd-text-{name}-{number}",
                dicom(SYNTAXES["explicit"], **{name: "1"}).replace(_text_of(name, "1 "), _text_of(name, text)),
            )
    good = dicom(SYNTAXES["explicit"])
    meta, pixels = meta_length(good), good.index(b"\xe0\x7f\x10\x00")
    for group_element in (0xE000, 0xE00D, 0xE0DD):
        for length in (0, 8, 2**31, 2**32 - 1):
            stray = struct.pack("<HHI", 0xFFFE, group_element, length)
            for place, at in (("first", meta), ("middle", pixels), ("last", len(good))):
                yield f"odd-delimiter-{group_element:x}-{length}-{place}", good[:at] + stray + good[at:]
            yield f"odd-delimiter-{group_element:x}-{length}-many", good[:pixels] + stray * 100_000 + good[pixels:]
    for sequence in (0x00283000, 0x00283010, 0x52009229, 0x52009230, 0x00289110, 0x00289145):
        for name, inner in {
            "empty": b"",
            "item": struct.pack("<HHI", 0xFFFE, 0xE000, 0),
            "open": struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF),
            "text": CANARY,
        }.items():
            said = element(sequence, b"SQ", len(inner)) + inner
            yield f"odd-sequence-{sequence:x}-{name}", good[:pixels] + said + good[pixels:]
            endless = element(sequence, b"SQ", 0xFFFFFFFF) + inner + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
            yield f"odd-sequence-{sequence:x}-{name}-endless", good[:pixels] + endless + good[pixels:]
    for vr in (b"DS", b"US", b"SQ", b"UN", b"ZZ", b"\0\0"):
        for tag in (b"\x10\x00\x20\x00LO", b"\x08\x00\x60\x00CS", b"\x28\x00\x10\x00US", b"\x28\x00\x04\x00CS"):
            at = good.index(tag) + 4
            yield f"odd-vr-{tag[:4].hex()}-{vr.hex()}", good[:at] + vr + good[at + 2 :]
    for frames in (2, 10_000):
        yield f"odd-frames-{frames}", dicom(SYNTAXES["explicit"], NumberOfFrames=frames)
    volume = np.random.default_rng(1).integers(0, 200, (33, 34, 6)).astype("u1")
    for number, value in enumerate((0, -1, -0.5, 7, 1e-30, 1e30, float("nan"), float("inf"))):
        by_qform = {"sform_code": 0, "qform_code": 1}
        yield f"odd-qfac-{number}", nifti(volume, **by_qform, pixdim=(value, 1, 1, 1, 1, 1, 1, 1))
        yield f"odd-zoom-{number}", nifti(volume, **by_qform, pixdim=(1, value, 1, 1, 1, 1, 1, 1))
        yield f"odd-quaternion-{number}", nifti(volume, **by_qform, quatern=(value, 0, 0))
    rows = zlib.compress(b"".join(b"\0" + bytes(48) for _ in range(40)))
    for colour, depth in ((0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 8), (4, 8), (6, 8)):
        for number, clear in enumerate((b"", b"\0", b"\xff\xff", b"\0\1\0\2\0\3", bytes(300))):
            head = chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 40, depth, colour, 0, 0, 0))
            body = head + chunk(b"PLTE", bytes(range(6))) + chunk(b"tRNS", clear) + chunk(b"IDAT", rows)
            yield f"odd-clear-{colour}-{depth}-{number}", b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def _text_of(keyword: str, text: str) -> bytes:
    """Return an element of text in Explicit VR Little Endian."""
    tag, content = Tag(keyword), text.encode("latin-1")
    content += b" " * (len(content) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, dictionary_VR(tag).encode(), len(content)) + content


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    for name, content in corpus():
        (folder / name).write_bytes(content)
