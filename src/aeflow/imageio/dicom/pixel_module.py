"""Layout of the pixels by the DICOM header, checked before any is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import uid

from aeflow.imageio.dicom.parse import ParsedDicom
from aeflow.imageio.errors import ImageLimitError
from aeflow.imageio.limits import Limits

SAMPLES_PER_PIXEL = {  # photometric interpretation -> samples per pixel
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
ENCAPSULATED = (*JPEG, *JPEG_LS, *JPEG_2000, uid.RLELossless)
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Image Pixel module (DICOM part 3, C.7.6.3), validated."""

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int  # bits that a sample takes
    stored: int  # bits of these that hold the value
    high: int  # the highest of the stored bits
    signed: bool
    planar: int
    photometric: str

    @property
    def lowest(self) -> int:
        """Lowest value that the stored bits can hold."""
        return -(1 << (self.stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """Highest value that the stored bits can hold."""
        return self.lowest + (1 << self.stored) - 1


def layout(source: ParsedDicom, limits: Limits) -> Layout:
    """Return the layout of the pixels; ImageError if it is incomplete, contradicts itself or is not supported."""
    _check_syntax(source)
    rows, columns = source.whole("Rows"), source.whole("Columns")
    if rows is None or columns is None:
        raise source.refuse("DICOM without an image in it", "name an image file")
    if rows < 1 or columns < 1:
        raise source.refuse(f"{rows} rows and {columns} columns")
    samples = source.whole("SamplesPerPixel") or 1
    photometric = source.text(source.data, "PhotometricInterpretation").upper()
    if SAMPLES_PER_PIXEL.get(photometric) != samples:
        known = photometric if photometric in SAMPLES_PER_PIXEL else "an unknown photometric interpretation"
        raise source.refuse(f"{known} of {samples} samples a pixel", "convert it to MONOCHROME2 or RGB")
    if photometric in ("YBR_ICT", "YBR_RCT") and source.syntax not in JPEG_2000:
        raise source.refuse(f"{photometric} outside of JPEG 2000", "convert it to RGB")
    frames = source.whole("NumberOfFrames")
    frames = 1 if frames is None else frames
    if frames < 1:
        raise source.refuse(f"{frames} frames")
    allocated, stored = source.whole("BitsAllocated") or 0, source.whole("BitsStored")
    high, signed, planar = (source.whole(name) for name in ("HighBit", "PixelRepresentation", "PlanarConfiguration"))
    if "PixelData" in source.data and (stored is None or signed is None):
        raise source.refuse("integers whose bits or sign it does not tell")
    stored = allocated if stored is None else stored
    high = stored - 1 if high is None else high
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= high + 1 <= allocated:
        raise source.refuse(f"{stored} bits of {allocated}, up to bit {high}")
    if planar is None and samples == 3 and source.syntax in NATIVE:
        raise source.refuse("colour that does not tell whether it lies pixel by pixel")
    signed, planar = signed or 0, planar or 0
    if signed not in (0, 1) or planar not in (0, 1):
        raise source.refuse(f"pixel representation {signed} and planar configuration {planar}")
    if signed and SAMPLES_PER_PIXEL[photometric] == 3:
        raise source.refuse("signed colour", "convert it to unsigned RGB")
    _check_size(source, limits, rows, columns, samples, frames, allocated)
    return Layout(rows, columns, samples, frames, allocated, stored, high, bool(signed), planar, photometric)


def _check_size(
    source: ParsedDicom, limits: Limits, rows: int, columns: int, samples: int, frames: int, allocated: int
) -> None:
    """Raise ImageLimitError if an image, a frame or their number is beyond the limits."""
    if rows * columns * samples > limits.max_pixels:
        found = f"{columns} x {rows} pixels of {samples} samples where the limit is {limits.max_pixels}"
        raise ImageLimitError(source.where, found, "shrink the image or raise max_pixels")
    if frames > limits.max_frames:
        found = f"{frames} frames where the limit is {limits.max_frames}"
        raise ImageLimitError(source.where, found, "split the file or raise max_frames")
    if (size := rows * columns * samples * max(allocated, 8) // 8) > limits.max_inflated:
        found = f"a frame of {size} bytes where the limit is {limits.max_inflated}"
        raise ImageLimitError(source.where, found, "shrink the image or raise max_inflated")


def _check_syntax(source: ParsedDicom) -> None:
    """Raise ImageError for a transfer syntax that is not read."""
    if source.syntax in (*NATIVE, *ENCAPSULATED):
        return
    name = source.syntax.name if not source.syntax.is_private else ""
    if any(word in name for word in ("MPEG", "HEVC")):
        raise source.refuse("a video, whose frames are not read", "save its frames as images")
    found = f"{'a private' if source.syntax.is_private else 'a'} transfer syntax that is not read"
    raise source.refuse(found, "convert it to Explicit VR Little Endian")
