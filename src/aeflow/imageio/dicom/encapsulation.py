"""Compressed streams of single frames in encapsulated pixel data (DICOM part 5, annex A.4), complete or refused."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np
from pydicom.encaps import generate_fragmented_frames, parse_basic_offsets, parse_fragments
from pydicom.uid import RLELossless

from aeflow.imageio.dicom.parse import ParsedDicom

END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
MAX_PADDING = 16  # bytes that may follow the end-of-image marker


def frames_of(source: ParsedDicom, frames: int) -> tuple[bytes, ...]:
    """Return the stream of each frame, its fragments joined; ImageError unless there are so many."""
    element = source.data["PixelData"]
    value = element.value
    if not element.is_undefined_length or not isinstance(value, bytes):
        raise source.refuse("uncompressed pixels under a transfer syntax of compressed ones")
    tables = [source.data.get(f"ExtendedOffsetTable{part}") for part in ("", "Lengths")]
    extended = (tables[0], tables[1]) if all(tables) else None
    _check_fragments(source, value, tables[0], frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of too few frames, which are refused below
        parts = generate_fragmented_frames(value, number_of_frames=frames, extended_offsets=extended)
        found = tuple(map(b"".join, parts))
    if len(found) != frames:
        raise source.refuse(f"{len(found)} compressed frames where it says to have {frames}")
    return found


def whole(source: ParsedDicom, stream: bytes) -> bytes:
    """Return the stream of a frame; ImageError if it is cut off."""
    if source.syntax != RLELossless and not _ends(stream):
        raise source.refuse("a compressed frame that is cut off")
    return stream


def _check_fragments(source: ParsedDicom, value: bytes, extended: bytes | None, frames: int) -> None:
    """Raise ImageError if the fragments are cut off, or the offsets are none of theirs: pydicom would guess."""
    buffer = BytesIO(value)
    try:
        basic = parse_basic_offsets(buffer)
        count, starts = parse_fragments(buffer)
    except (ValueError, struct.error):
        raise source.refuse("compressed pixels that are cut off or damaged") from None  # its text may hold values
    if not count:
        raise source.refuse("no compressed pixels")
    if starts[-1] + 8 + int.from_bytes(value[starts[-1] + 4 : starts[-1] + 8], "little") > len(value):
        raise source.refuse("compressed pixels that are cut off or damaged")
    offsets = basic if extended is None else np.frombuffer(extended, "<u8").tolist()
    rising = all(a < b for a, b in pairwise(offsets))
    if offsets and (
        len(offsets) != frames or offsets[0] != 0 or not rising or not {*offsets} <= {s - starts[0] for s in starts}
    ):
        raise source.refuse(f"a table of {len(offsets)} offsets that does not fit {frames} frames")
    if not offsets and (count < frames or (count != frames > 1 and source.syntax == RLELossless)):
        raise source.refuse(f"{count} compressed fragments for {frames} frames")


def _ends(stream: bytes) -> bool:
    """Return if a stream has the end-of-image marker at its end."""
    return END_OF_IMAGE in stream.rstrip(b"\0")[-MAX_PADDING:]


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Header of a JPEG or JPEG-LS stream: everything before its data."""

    process: int  # the marker that begins the frame
    precision: int
    rows: int
    columns: int
    components: bytes  # their identifiers
    jfif: bool
    adobe: int | None  # colour transform by Adobe's marker: 0 for none, 1 for YBR
    segments: tuple[tuple[int, bytes], ...]  # marker and body of each, up to the start of the data
    data: int  # offset at which the data begins

    @property
    def is_rgb(self) -> bool:
        """True if libjpeg takes three components for RGB rather than YBR."""
        if self.jfif or self.adobe is not None:
            return not self.jfif and self.adobe == 0
        return self.components == b"RGB"

    def bare(self, stream: bytes) -> bytes:
        """Return the stream without the segments that applications added: only tables, frame and scan."""
        kept = [(marker, body) for marker, body in self.segments if not 0xE0 <= marker <= 0xFE]
        parts = [bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body for marker, body in kept]
        return b"\xff\xd8" + b"".join(parts) + stream[self.data :]


def jpeg_header(source: ParsedDicom, stream: bytes) -> JpegHeader:
    """Return the header of a stream (ISO/IEC 10918-1, B.2) with one frame; ImageError unless it has exactly one."""
    segments: list[tuple[int, bytes]] = []
    at = 2
    while stream.startswith(b"\xff\xd8") and at + 4 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        stop = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        segments.append((marker, stream[at + 4 : stop]))
        at = max(stop, at + 4)
        if marker == START_OF_SCAN:
            break
    frames = [(marker, body) for marker, body in segments if marker in START_OF_FRAME]
    if len(frames) != 1 or segments[-1][0] != START_OF_SCAN or at > len(stream):
        raise source.refuse("a compressed frame whose header is damaged")
    process, body = frames[0]
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise source.refuse("a compressed frame whose header is damaged")
    precision, rows, columns, count = struct.unpack_from(">BHHB", body)
    jfif = any(marker == 0xE0 and text.startswith(b"JFIF") for marker, text in segments)
    adobe = [text[11] for marker, text in segments if marker == 0xEE and text.startswith(b"Adobe") and len(text) > 11]
    components = body[6 : 6 + 3 * count : 3]
    return JpegHeader(
        process, precision, rows, columns, components, jfif, adobe[-1] if adobe else None, tuple(segments), at
    )


START_OF_FRAME, START_OF_SCAN = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}, 0xDA
