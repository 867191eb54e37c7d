"""Reading of DICOM: one frame in [0, 1], or the header's facts; no value of a header enters an error.

What pixels do not need (spacing, position, patient, study) never decides about them: it is None where it cannot be
understood, and the header then names a patient or study that it lost.

Range of grey images, in this order:
- values as stored -> the modality's, by its lookup table or by slope and intercept (the frame's own if any);
- a VOI lookup table, else the first window (LINEAR, LINEAR_EXACT or SIGMOID) maps them to [0, 1]; a window of no width
  counts as none, a LINEAR one narrower than 1 as exact; one that shows nothing of what differs is refused by its name;
- without either, the full range of BitsStored does, so that images of one machine stay comparable; in modalities
  without a fixed scale (MR, PT, NM) and for floating-point pixels it is the frame's 0.5th to 99.5th percentile;
- MONOCHROME1 is inverted last, so that air is dark in every X-ray;
- pixels of the padding value count in no range and are 0 in the end.

Colour is divided by its full range; palettes and YBR become RGB; colour profiles are ignored. What is stored beyond
BitsStored (overlays) never shows. DICOM part 3, C.7.6.3, C.11.1 and C.11.2.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from aeflow.imageio.dicom import values
from aeflow.imageio.dicom.decode import Encoded, decode, encoded
from aeflow.imageio.dicom.display import shown
from aeflow.imageio.dicom.parse import EXPORT, ParsedDicom, parse
from aeflow.imageio.dicom.pixel_module import Layout, layout
from aeflow.imageio.dicom.sop_classes import DIRECTORY, not_an_image
from aeflow.imageio.dicom.values import UnreadableError, described
from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.image import Header, Plane, RawImage, Uids
from aeflow.imageio.last import Last
from aeflow.imageio.limits import Limits

NAME_AN_IMAGE = "name an image file"
MAX_HEADER = 64 * 2**20  # bytes that a result which refers to an image takes over
MAX_LISTED = 100_000  # files in a directory
ROUNDED = 1e-2  # from what directions of length 1 at right angles may be off: some files give two decimals


def header(content: bytes, where: Path, limits: Limits) -> Header:
    """Return the header's facts; no pixel is decoded. ImageError if the file holds no image that ``read`` reads."""
    with _typed(where, "header"):
        source, pixels = _image(content, where, limits)
        frames = pixels.frames
        if frames > 1:
            try:
                _encoded(content, where, limits)
            except ImageError:  # none of them can be read: the file is refused once, when it is read as one image
                frames = 1
        return Header(
            format="DICOM",
            frames=frames,
            patient=_patient(source.data),
            study=_text(source.data, "StudyInstanceUID"),
            position=_position(source) if frames == 1 else None,
            modality=_text(source.data, "Modality"),
            photometric=pixels.photometric,
            unread=tuple(described(keyword) for keyword in IDENTITY if not _readable(source.data, keyword)),
            uids=Uids(*(_text(source.data, f"{of}InstanceUID") for of in ("SOP", "Study", "Series"))),
            plane=_plane(source, pixels, 0) if frames == 1 else None,
        )


def read(content: bytes, where: Path, limits: Limits, frame: int = 0) -> RawImage:
    """Return one frame, from 0: (H, W) or (H, W, 3), float32 in [0, 1]; ImageError if it cannot be read exactly."""
    with _typed(where, "pixels"):
        source, pixels = _image(content, where, limits)
        stored = _encoded(content, where, limits)
        if not 0 <= frame < pixels.frames:
            raise source.refuse(f"no frame {frame} in {pixels.frames}", "name a frame it has")
        samples = shown(source, pixels, decode(source, pixels, stored, frame), frame)
        return RawImage(
            np.ascontiguousarray(samples),
            _spacing(source, frame),
            _patient(source.data),
            _text(source.data, "Modality"),
            pixels.photometric,
        )


def planes(content: bytes, where: Path, limits: Limits) -> list[Plane | None]:
    """Return where each frame lies, None for one that lies nowhere; it takes a millisecond a frame."""
    with _typed(where, "header"):
        source, pixels = _image(content, where, limits)
        return [_plane(source, pixels, frame) for frame in range(pixels.frames)]


def dataset(content: bytes, where: Path) -> Dataset | ImageError:
    """Return every element of the header in Unicode, without pixels; the ImageError if pydicom cannot read them all."""
    try:
        found = dcmread(io.BytesIO(content), stop_before_pixels=True, force=True)
        if (size := len(pickle.dumps(found))) > MAX_HEADER:
            return ImageError(where, f"a header of {size} bytes without its pixels", "remove what is not needed")
        found.decode()
    except Exception as error:  # pydicom raises many kinds for damaged headers
        return ImageError(
            where, f"its header cannot be read ({type(error).__name__})", "export it from the archive again"
        )
    return found


def directory(content: bytes, where: Path, limits: Limits) -> list[Path]:
    """Return the files that a DICOMDIR at ``where`` lists, in order; ImageError if it lists none, or one outside."""
    with _typed(where, "records"):
        source = parse(content, where, limits)
        if source.sop_class != DIRECTORY and "DirectoryRecordSequence" not in source.data:
            raise source.refuse("DICOM, but not a directory", "name a DICOMDIR")
        files = []
        for record in source.data.get("DirectoryRecordSequence") or []:
            parts = record.get("ReferencedFileID")
            if parts and record.get("RecordInUseFlag") != 0:  # 0: no longer in use
                files.append(_beside(source, [parts] if isinstance(parts, str) else [str(part) for part in parts]))
        if not files:
            raise source.refuse("a directory that lists no files", NAME_AN_IMAGE)
        if len(files) > MAX_LISTED:
            found = f"a directory of {len(files)} files where the limit is {MAX_LISTED}"
            raise ImageLimitError(where, found, "name the files it lists")
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
def _typed(where: Path, what: str) -> Iterator[None]:
    """Turn all other errors of pydicom and NumPy into an ImageError; without its cause, whose text quotes values."""
    try:
        yield
    except (ImageError, MemoryError):  # the worker reports a lack of memory itself
        raise
    except Exception as error:
        raise ImageError(where, f"DICOM whose {what} cannot be understood ({type(error).__name__})", EXPORT) from None


_images: Last[tuple[ParsedDicom, Layout]] = Last()
_pixels: Last[Encoded] = Last()


def _image(content: bytes, where: Path, limits: Limits) -> tuple[ParsedDicom, Layout]:
    """Return the data set of an image and the layout of its pixels; ImageError if it is no image."""

    def opened() -> tuple[ParsedDicom, Layout]:
        source = parse(content, where, limits)
        if kind := not_an_image(source.sop_class):
            remedy = "name the files it lists" if source.sop_class == DIRECTORY else NAME_AN_IMAGE
            raise source.refuse(f"DICOM, but {kind}, not an image", remedy)
        return source, layout(source, limits)

    return _images.of((content, where, limits), opened)


def _encoded(content: bytes, where: Path, limits: Limits) -> Encoded:
    """Return the pixels of an image as they lie in its file; ImageError if they do not fit the header."""
    return _pixels.of((content, where, limits), lambda: encoded(*_image(content, where, limits)))


IDENTITY = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")  # without these a leak or a study passes unseen


def _readable(data: Dataset, keyword: str) -> bool:
    """Return if an element is missing, empty or text."""
    try:
        values.text(data, keyword)
    except UnreadableError:
        return False
    return True


def _text(data: Dataset, keyword: str) -> str | None:
    """Return an element that pixels do not need as text, None if it is missing, empty or unreadable."""
    return values.text(data, keyword) if _readable(data, keyword) else None


def _patient(data: Dataset) -> str | None:
    """Return PatientID, with its issuer as HL7 writes it: identifiers of two hospitals may coincide."""
    key, issuer = _text(data, "PatientID"), _text(data, "IssuerOfPatientID")
    return f"{key}^^^{issuer}" if key and issuer else key


def _measured(source: ParsedDicom, keyword: str, macro: str | None = None, frame: int = 0) -> list[float]:
    """Return the numbers of an element that pixels do not need, none if it is missing or holds anything else."""
    try:
        return source.numbers(source.data if macro is None else source.group(macro, frame), keyword)
    except ImageError:
        return []


def _spacing(source: ParsedDicom, frame: int) -> tuple[float, float] | None:
    """Return the distances in mm between rows and between columns, None if the file gives no valid ones."""
    for keyword, macro in (
        ("PixelSpacing", None),
        ("ImagerPixelSpacing", None),
        ("PixelSpacing", "PixelMeasuresSequence"),
    ):
        spacing = _measured(source, keyword, macro, frame)
        if len(spacing) == 2 and min(spacing) > 0:
            return spacing[0], spacing[1]
    return None


def _position(source: ParsedDicom) -> float | None:
    """Return the position of a slice along its normal in mm, else its location, else its number in the series."""
    corner = _measured(source, "ImagePositionPatient", "PlanePositionSequence")
    axes = _measured(source, "ImageOrientationPatient", "PlaneOrientationSequence")
    if len(corner) == 3 and len(axes) == 6 and any(normal := np.cross(axes[:3], axes[3:])):
        return float(np.dot(corner, normal))
    for keyword in ("SliceLocation", "InstanceNumber"):
        if found := _measured(source, keyword):
            return found[0]
    return None


def _plane(source: ParsedDicom, pixels: Layout, frame: int) -> Plane | None:
    """Return where a frame lies in the patient, None if the file does not say so in valid numbers."""
    corner = _measured(source, "ImagePositionPatient", "PlanePositionSequence", frame)
    axes = _measured(source, "ImageOrientationPatient", "PlaneOrientationSequence", frame)
    spacing = _measured(source, "PixelSpacing", "PixelMeasuresSequence", frame)
    if not (len(corner) == 3 and len(axes) == 6 and len(spacing) == 2 and min(spacing) > 0):
        return None
    along = np.reshape(axes, (2, 3))
    if not np.allclose(along @ along.T, np.eye(2), atol=ROUNDED):
        return None
    row, column = along.tolist()
    size, reference = (pixels.rows, pixels.columns), _text(source.data, "FrameOfReferenceUID")
    return Plane(tuple(corner), tuple(row), tuple(column), (spacing[0], spacing[1]), size, reference)  # type: ignore[arg-type]
