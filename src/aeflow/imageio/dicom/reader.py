"""Reading of DICOM: one frame in [0, 1], or the header's facts; no value of a header enters an error.

Range of grey images, in this order:
- values as stored -> the modality's, by its lookup table or by slope and intercept (the frame's own if any);
- a VOI lookup table, else the first window (LINEAR, LINEAR_EXACT or SIGMOID) maps them to [0, 1]; a window of no width
  counts as none, a LINEAR one narrower than 1 as exact;
- without either, the full range of BitsStored does, so that images of one machine stay comparable; in modalities
  without a fixed scale (MR, PT, NM) and for floating-point pixels it is the frame's 0.5th to 99.5th percentile;
- MONOCHROME1 is inverted last, so that air is dark in every X-ray;
- pixels of the padding value count in no range and are 0 in the end.

Colour is divided by its full range; palettes and YBR become RGB; colour profiles are ignored. What is stored beyond
BitsStored (overlays) never shows. DICOM part 3, C.7.6.3, C.11.1 and C.11.2.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from aeflow.imageio.dicom.decode import decode
from aeflow.imageio.dicom.display import shown
from aeflow.imageio.dicom.parse import ParsedDicom, encoding, parse
from aeflow.imageio.dicom.pixel_module import Layout, layout
from aeflow.imageio.dicom.sop_classes import DIRECTORY, not_an_image
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Header, RawImage
from aeflow.imageio.limits import Limits

NAME_AN_IMAGE = "name an image file"


def is_dicom(content: bytes) -> bool:
    """Return if these bytes begin like DICOM: with its preamble, or with an element of group 0002 or 0008."""
    return content[128:132] == b"DICM" or encoding(content) is not None


def header(content: bytes, where: Path, limits: Limits) -> Header:
    """Return the header's facts; no pixel is decoded. ImageError if the file holds no image that ``read`` reads."""
    with _typed(where):
        source, pixels = _image(content, where, limits, pixels=False)
        return Header(
            format="DICOM",
            frames=pixels.frames,
            patient=_patient(source.data),
            study=_text(source.data, "StudyInstanceUID"),
            position=_position(source) if pixels.frames == 1 else None,
            modality=_text(source.data, "Modality"),
            photometric=pixels.photometric,
        )


def read(content: bytes, where: Path, limits: Limits, frame: int = 0) -> RawImage:
    """Return one frame, from 0: (H, W) or (H, W, 3), float32 in [0, 1]; ImageError if it cannot be read exactly."""
    with _typed(where):
        source, pixels = _image(content, where, limits, pixels=True)
        if not 0 <= frame < pixels.frames:
            raise source.refuse(f"no frame {frame} in {pixels.frames}", "name a frame it has")
        samples = shown(source, pixels, decode(source, pixels, frame), frame)
        return RawImage(
            np.ascontiguousarray(samples),
            _spacing(source, frame),
            _patient(source.data),
            _text(source.data, "Modality"),
            pixels.photometric,
        )


def dataset(content: bytes, where: Path) -> Dataset | ImageError:
    """Return every element of the header in Unicode, without pixels; the ImageError if pydicom cannot read them all."""
    try:
        found = dcmread(io.BytesIO(content), stop_before_pixels=True, force=True)
        found.decode()
    except Exception as error:  # pydicom raises many kinds for damaged headers
        return ImageError(
            where, f"its header cannot be read ({type(error).__name__})", "export it from the archive again"
        )
    return found


def directory(content: bytes, where: Path, limits: Limits) -> list[Path]:
    """Return the files that a DICOMDIR at ``where`` lists, in order; ImageError if it lists none, or one outside."""
    with _typed(where):
        source = parse(content, where, limits, pixels=True)
        if source.sop_class != DIRECTORY and "DirectoryRecordSequence" not in source.data:
            raise source.refuse("DICOM, but not a directory", "name a DICOMDIR")
        files = []
        for record in source.data.get("DirectoryRecordSequence") or []:
            parts = record.get("ReferencedFileID")
            if parts and record.get("RecordInUseFlag") != 0:  # 0: no longer in use
                files.append(_beside(source, [parts] if isinstance(parts, str) else [str(part) for part in parts]))
        if not files:
            raise source.refuse("a directory that lists no files", NAME_AN_IMAGE)
        return list(dict.fromkeys(files))


def _beside(source: ParsedDicom, parts: list[str]) -> Path:
    """Return the file of these path components; links that lead out of the folder are refused like '..'."""
    folder = source.where.parent
    named = all(part and part not in (".", "..") and not set(part) & set("/\\:\0") for part in parts)
    path = folder.joinpath(*parts) if named else folder
    if not named or not path.resolve().is_relative_to(folder.resolve()):
        raise source.refuse("a directory that names a file outside of its folder", "copy the folder as a whole")
    return path


@contextmanager
def _typed(where: Path) -> Iterator[None]:
    """Turn all errors of pydicom and the decoders into an ImageError; without its cause, whose text quotes values."""
    try:
        yield
    except (ImageError, MemoryError):  # the worker reports a lack of memory itself
        raise
    except Exception as error:
        found = f"DICOM that is damaged, cut off or of a rare kind ({type(error).__name__})"
        raise ImageError(where, found, "export it again") from None


def _image(content: bytes, where: Path, limits: Limits, pixels: bool) -> tuple[ParsedDicom, Layout]:
    """Return the data set of an image and the layout of its pixels; ImageError if it is no image."""
    source = parse(content, where, limits, pixels)
    if kind := not_an_image(source.sop_class):
        remedy = "name the files it lists" if source.sop_class == DIRECTORY else NAME_AN_IMAGE
        raise source.refuse(f"DICOM, but {kind}, not an image", remedy)
    return source, layout(source, limits)


def _text(data: Dataset, keyword: str) -> str | None:
    """Return an element as text, None if it is missing or empty."""
    return str(data.get(keyword) or "").strip() or None


def _patient(data: Dataset) -> str | None:
    """Return PatientID, with its issuer as HL7 writes it: identifiers of two hospitals may coincide."""
    key, issuer = _text(data, "PatientID"), _text(data, "IssuerOfPatientID")
    return f"{key}^^^{issuer}" if key and issuer else key


def _spacing(source: ParsedDicom, frame: int) -> tuple[float, float] | None:
    """Return the distances in mm between rows and between columns, None if the file gives no valid ones."""
    measures = source.group("PixelMeasuresSequence", frame)
    for item, keyword in (
        (source.data, "PixelSpacing"),
        (source.data, "ImagerPixelSpacing"),
        (measures, "PixelSpacing"),
    ):
        spacing = source.numbers(item, keyword)
        if len(spacing) == 2 and min(spacing) > 0:
            return spacing[0], spacing[1]
    return None


def _position(source: ParsedDicom) -> float | None:
    """Return the position of a slice along its normal in mm, else its location, else its number in the series."""
    corner = source.numbers(source.group("PlanePositionSequence", 0), "ImagePositionPatient")
    axes = source.numbers(source.group("PlaneOrientationSequence", 0), "ImageOrientationPatient")
    if len(corner) == 3 and len(axes) == 6 and any(normal := np.cross(axes[:3], axes[3:])):
        return float(np.dot(corner, normal))
    for keyword in ("SliceLocation", "InstanceNumber"):
        if found := source.numbers(source.data, keyword):
            return found[0]
    return None
