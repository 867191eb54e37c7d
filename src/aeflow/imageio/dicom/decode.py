"""Decoding of one frame of a DICOM data set to the values as stored, exact to the bit.

Uncompressed pixels are laid out by pydicom; JPEG is decoded by GDCM, JPEG-LS by CharLS, JPEG 2000 by OpenJPEG, each
called directly, because pydicom's plugins refuse 12-bit JPEG. Where one refuses a frame, the next that is installed is
asked. RLE is unpacked here, because pydicom does it without a bound. A stream whose size is not that of the header, or
that ends early, is refused: nothing is padded silently.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from math import ceil
from typing import Any

import gdcm
import jpeg_ls
import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import decode as decode_jpeg_2000
from openjpeg.utils import get_parameters as jpeg_2000_header
from PIL.JpegImagePlugin import JpegImageFile
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import RLELossless

from aeflow.imageio.dicom.encapsulation import JpegHeader, frames_of, jpeg_header, whole
from aeflow.imageio.dicom.parse import ParsedDicom
from aeflow.imageio.dicom.pixel_module import JPEG, JPEG_2000, JPEG_LS, Layout
from aeflow.imageio.whole_jpeg import is_whole

gdcm.Trace.DebugOff()
gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()


@dataclass(frozen=True, slots=True)
class Stored:
    """Values as stored: (H, W), or (H, W, 3) in the colour space of ``photometric``."""

    values: NDArray[Any]
    photometric: str


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Values as a decoder returns them, before unused bits are cleared."""

    values: NDArray[Any]  # (H, W) or (H, W, 3)
    precision: int  # bits that hold a value
    photometric: str
    signed: bool = False  # True if negative numbers are negative already


@dataclass(frozen=True, slots=True)
class Encoded:
    """Pixels of all frames as they lie in a file."""

    keyword: str  # of the element that holds them
    frames: tuple[bytes, ...] = ()  # compressed streams


def encoded(source: ParsedDicom, layout: Layout) -> Encoded:
    """Return the pixels of a file as they lie in it; ImageError unless they are as many as its header says."""
    keywords = [keyword for keyword in PIXEL_KEYWORDS if keyword in source.data]
    if len(keywords) != 1:
        raise source.refuse(f"{len(keywords)} sets of pixels" if keywords else "a header without pixels")
    [keyword] = keywords
    if source.syntax.is_encapsulated and keyword != "PixelData":
        raise source.refuse("compressed floating-point pixels", "convert it to Explicit VR Little Endian")
    if keyword == "PixelData" and layout.allocated > 32:
        raise source.refuse(f"integers of {layout.allocated} bits", "convert it to 16 bits")
    if source.syntax.is_encapsulated:
        return Encoded(keyword, frames_of(source, layout.frames))
    _check_native(source, layout, keyword)
    return Encoded(keyword)


def decode(source: ParsedDicom, layout: Layout, pixels: Encoded, frame: int) -> Stored:
    """Return the frame's values, with all bits beyond BitsStored cleared; YBR is turned into RGB."""
    if pixels.keyword != "PixelData":
        return Stored(_native(source, layout, frame, pixels.keyword), layout.photometric)
    if not pixels.frames:
        values = _native(source, layout, frame, pixels.keyword)
        photometric = "YBR_FULL" if layout.photometric == "YBR_FULL_422" else layout.photometric
        decoded = _Decoded(values, layout.allocated, photometric)
    else:
        decoded = DECODERS[source.syntax](source, layout, whole(source, pixels.frames[frame]))
    values = _integers(decoded, layout)
    if not decoded.photometric.startswith("YBR"):
        return Stored(values, decoded.photometric)
    if layout.stored > 8:
        raise source.refuse(f"YBR colour of {layout.stored} bits", "convert it to RGB")
    return Stored(convert_color_space(values.astype(np.uint8), "YBR_FULL", "RGB"), "RGB")


PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def _integers(decoded: _Decoded, layout: Layout) -> NDArray[Any]:
    """Clear bits above HighBit and those below the BitsStored ones, and extend the sign (DICOM part 5, 8.1.1)."""
    wide: NDArray[np.signedinteger[Any]] = decoded.values.astype(np.int64 if layout.allocated > 16 else np.int32)
    if decoded.precision > layout.high:
        wide = wide >> (layout.high + 1 - layout.stored)
    bits = layout.stored if decoded.signed == layout.signed else min(layout.stored, decoded.precision)
    wide = wide & ((1 << bits) - 1)
    return wide - ((wide >> (bits - 1)) << bits) if layout.signed else wide


def _check_native(source: ParsedDicom, layout: Layout, keyword: str) -> None:
    """Raise ImageError unless uncompressed pixels have the size that the header says."""
    element = source.data[keyword]
    if element.is_undefined_length or not isinstance(element.value, bytes):
        raise source.refuse("compressed pixels under a transfer syntax of uncompressed ones")
    subsampled = layout.photometric == "YBR_FULL_422"
    if subsampled and layout.columns % 2:
        raise source.refuse(f"YBR_FULL_422 of {layout.columns} columns, an odd number", "convert it to RGB")
    bits = layout.rows * layout.columns * layout.samples * layout.allocated
    bits = bits * 2 // 3 if subsampled else bits
    expected, size = ceil(bits * layout.frames / 8), len(element.value)
    if size < expected:
        raise source.refuse(f"{size} bytes of pixels where its size takes {expected}")
    if (size - expected) * 8 >= bits and size - expected > 1:
        raise source.refuse(f"{size} bytes of pixels where its size takes only {expected}")


def _native(source: ParsedDicom, layout: Layout, frame: int, keyword: str) -> NDArray[Any]:
    """Return the values of an uncompressed frame."""
    element = source.data[keyword]
    if layout.allocated == 1:
        return _single_bits(source, layout, frame, element.value)
    options: dict[str, Any] = {
        "number_of_frames": layout.frames,
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.allocated,  # unused bits are cleared here
        "pixel_representation": 0,
        "planar_configuration": layout.planar,
        "photometric_interpretation": layout.photometric,
        "pixel_keyword": keyword,
        "pixel_vr": element.VR,
        "allow_excess_frames": False,
    }
    decoder = get_decoder(source.syntax)
    return decoder.as_array(element.value, index=frame, raw=True, **options)[0]  # raw: colour is converted here


def _single_bits(source: ParsedDicom, layout: Layout, frame: int, content: bytes) -> NDArray[Any]:
    """Return the single bits of a frame; it may begin within a byte, and pydicom cuts such frames short."""
    if not source.little:
        raise source.refuse("single bits in big-endian words", "convert it to Explicit VR Little Endian")
    size = layout.rows * layout.columns * layout.samples
    first = frame * size
    packed = np.frombuffer(content[first // 8 : ceil((first + size) / 8)], np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + size]
    return _shaped(bits, layout, by_plane=layout.planar == 1 and layout.samples > 1)


def _check_stream(source: ParsedDicom, layout: Layout, rows: int, columns: int, samples: int) -> None:
    """Raise ImageError unless a stream has the size of the header."""
    if (rows, columns, samples) != (layout.rows, layout.columns, layout.samples):
        found = f"a compressed frame of {columns} x {rows} pixels and {samples} samples"
        raise source.refuse(f"{found} under a header of {layout.columns} x {layout.rows} and {layout.samples}")


NO_VALUES = np.empty(0, np.uint8)  # of a stream that is not decoded yet
LOSSLESS_JPEG = 0xC3  # the marker of JPEG's process 14


def _jpeg(source: ParsedDicom, layout: Layout, stream: bytes) -> _Decoded:
    """Decode a JPEG stream."""
    header = jpeg_header(source, stream)
    _check_stream(source, layout, header.rows, header.columns, len(header.components))
    depths = {0xC0: (8,), 0xC1: (8, 12), 0xC2: (8,), 0xC3: range(2, 17)}.get(header.process, ())
    if header.precision not in depths or header.precision > layout.allocated:
        raise source.refuse(f"a JPEG frame of {header.precision} bits by process {header.process - 0xC0}")
    photometric = _colour_space(layout, header)
    gdcm_alone = header.process == LOSSLESS_JPEG or header.precision != 8
    if not gdcm_alone and not is_whole(stream, len(header.components)):
        raise source.refuse("a JPEG frame of which a part is missing or damaged")

    def decoded(decoder: Callable[[JpegHeader, bytes, str], NDArray[Any]]) -> _Decoded:
        values = decoder(header, stream, photometric)
        if values.size != layout.rows * layout.columns * layout.samples:
            raise ValueError("cut off")
        return _Decoded(_shaped(values, layout), header.precision, photometric)

    decoders = {} if gdcm_alone else {"Pillow": partial(decoded, _with_pillow)}
    return _first(source, "JPEG", {**decoders, "GDCM": partial(decoded, _with_gdcm)})


def _first(source: ParsedDicom, kind: str, decoders: dict[str, Callable[[], _Decoded]]) -> _Decoded:
    """Return what the first decoder makes that reads the frame: each is stricter than the others about something."""
    for decoder in decoders.values():
        try:
            return decoder()
        except MemoryError:
            raise
        except Exception:  # each raises kinds of its own, whose texts may quote values
            continue
    raise source.refuse(f"a {kind} frame that is damaged, or of a kind that {' and '.join(decoders)} cannot decode")


def _by_plugin(source: ParsedDicom, layout: Layout, stream: bytes, name: str, found: _Decoded) -> _Decoded:
    """Decode by a plugin of pydicom; ``found`` is what the stream says of itself, with no values."""
    allocated = 8 if found.precision <= 8 else 16
    options: dict[str, Any] = {
        "number_of_frames": 1,
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "bits_allocated": allocated,
        "bits_stored": found.precision,
        "pixel_representation": int(found.signed),
        "planar_configuration": 0,
        "photometric_interpretation": "RGB" if layout.samples == 3 else "MONOCHROME2",  # nothing is to be converted
        "pixel_keyword": "PixelData",
    }
    decoder = get_decoder(source.syntax)
    values, _ = decoder.as_array(encapsulate([stream]), raw=True, decoding_plugin=name, **options)
    return replace(found, values=_shaped(values, layout))


def _with_pillow(header: JpegHeader, stream: bytes, photometric: str) -> NDArray[Any]:
    """Decode 8 bits by Pillow."""
    image = JpegImageFile(BytesIO(stream))
    if len(header.components) == 3 and not header.is_rgb:
        image.draft("YCbCr", image.size)  # as stored: libjpeg must not decide if it becomes RGB
    return np.asarray(image).ravel()


def _with_gdcm(header: JpegHeader, stream: bytes, photometric: str) -> NDArray[Any]:
    """Decode JPEG of any kind; no values if GDCM fails."""
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(header.bare(stream))
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((header.columns, header.rows, 1))
    image.SetDataElement(element)
    kind = "MONOCHROME2" if len(header.components) == 1 else photometric
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType(kind)))
    if len(header.components) > 1:
        image.SetPlanarConfiguration(0)
    lossless, lossy = gdcm.TransferSyntax.JPEGLosslessProcess14, gdcm.TransferSyntax.JPEGExtendedProcess2_4
    image.SetTransferSyntax(gdcm.TransferSyntax(lossless if header.process == LOSSLESS_JPEG else lossy))
    bits = 8 if header.precision <= 8 else 12 if header.precision <= 12 else 16  # selects one of GDCM's decoders
    image.SetPixelFormat(gdcm.PixelFormat(len(header.components), bits, bits, bits - 1, 0))
    text = image.GetBuffer() or ""
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), "u1" if bits == 8 else "<u2")


def _colour_space(layout: Layout, header: JpegHeader) -> str:
    """Return the colour space by the stream's markers (JFIF, Adobe) or component names, else by the header."""
    if layout.samples == 1:
        return layout.photometric
    if header.is_rgb:
        return "RGB"
    return "YBR_FULL" if header.jfif or header.adobe == 1 else layout.photometric


def _jpeg_ls(source: ParsedDicom, layout: Layout, stream: bytes) -> _Decoded:
    """Decode a JPEG-LS stream."""
    header = jpeg_header(source, stream)
    _check_stream(source, layout, header.rows, header.columns, len(header.components))
    of_stream = _Decoded(NO_VALUES, header.precision, _colour_space(layout, header))

    def by_charls() -> _Decoded:
        content, found = jpeg_ls.decode_pixel_data(stream)
        values = np.frombuffer(content, "u1" if header.precision <= 8 else "<u2")
        by_plane = layout.samples > 1 and found["interleave_mode"] == 0
        return replace(of_stream, values=_shaped(values, layout, by_plane))

    by_gdcm = partial(_by_plugin, source, layout, stream, "gdcm", of_stream)
    return _first(source, "JPEG-LS", {"CharLS": by_charls, "GDCM": by_gdcm})


def _jpeg_2000(source: ParsedDicom, layout: Layout, stream: bytes) -> _Decoded:
    """Decode a JPEG 2000 stream."""
    try:
        found: dict[str, Any] = jpeg_2000_header(stream)
    except Exception:  # OpenJPEG's own kinds
        raise source.refuse("a JPEG 2000 frame whose header is damaged") from None
    _check_stream(source, layout, found["rows"], found["columns"], found["samples_per_pixel"])
    photometric = "RGB" if layout.photometric in ("YBR_ICT", "YBR_RCT") else layout.photometric
    of_stream = _Decoded(NO_VALUES, found["precision"], photometric, found["is_signed"])
    decoders: dict[str, Callable[[], _Decoded]] = {
        "OpenJPEG": lambda: replace(of_stream, values=decode_jpeg_2000(stream))
    }
    for plugin, name in (("pillow", "Pillow"), ("gdcm", "GDCM")):
        if plugin in get_decoder(source.syntax).available_plugins:
            decoders[name] = partial(_by_plugin, source, layout, stream, plugin, of_stream)
    return _first(source, "JPEG 2000", decoders)


def _rle(source: ParsedDicom, layout: Layout, stream: bytes) -> _Decoded:
    """Decode byte planes, most significant of the first sample first, each packed by itself (DICOM part 5, annex G)."""
    if layout.allocated % 8 or len(stream) < 64:
        raise source.refuse(f"a run-length frame of {len(stream)} bytes for {layout.allocated} bits a sample")
    width, size = layout.allocated // 8, layout.rows * layout.columns
    count, *starts = struct.unpack("<16L", stream[:64])
    if count != width * layout.samples:
        raise source.refuse(f"{count} run-length segments where {width * layout.samples} are needed")
    stops = [*starts[1:count], len(stream)]
    planes = [_unpacked(stream[start:stop], size) for start, stop in zip(starts[:count], stops, strict=True)]
    if any(len(plane) < size for plane in planes):
        raise source.refuse("a run-length frame that is cut off")
    content = np.frombuffer(b"".join(planes), np.uint8).reshape(layout.samples, width, layout.rows, layout.columns)
    words = np.ascontiguousarray(content.transpose(2, 3, 0, 1)).view(f">u{width}")[..., 0]
    return _Decoded(words[..., 0] if layout.samples == 1 else words, layout.allocated, layout.photometric)


def _unpacked(segment: bytes, size: int) -> bytes:
    """Return at most ``size`` bytes of PackBits."""
    unpacked, at = bytearray(), 0
    while len(unpacked) < size and at + 1 < len(segment):
        count = segment[at]
        if count < 128:
            unpacked += segment[at + 1 : at + 2 + count]
            at += 2 + count
        else:
            if count > 128:
                unpacked += segment[at + 1 : at + 2] * (257 - count)
                at += 1
            at += 1
    return bytes(unpacked[:size])


def _shaped(values: NDArray[Any], layout: Layout, by_plane: bool = False) -> NDArray[Any]:
    """Return values as (H, W) or (H, W, 3)."""
    rows, columns, samples = layout.rows, layout.columns, layout.samples
    if by_plane:
        return values.reshape(samples, rows, columns).transpose(1, 2, 0)
    return values.reshape((rows, columns) if samples == 1 else (rows, columns, samples))


DECODERS: dict[str, Callable[[ParsedDicom, Layout, bytes], _Decoded]] = {
    **dict.fromkeys(JPEG, _jpeg),
    **dict.fromkeys(JPEG_LS, _jpeg_ls),
    **dict.fromkeys(JPEG_2000, _jpeg_2000),
    RLELossless: _rle,
}
