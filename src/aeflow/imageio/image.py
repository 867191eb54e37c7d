"""Images as readers return them, headers, and the facts of an image's acquisition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Axis
from aeflow.imageio.nifti_space import NiftiSpace

# Terms of the DICOM standard. Any other counts as OTHER, so that no text of a header gets into a model.
MODALITIES = ("CR", "CT", "DX", "ES", "MG", "MR", "NM", "OP", "OPT", "PT", "PX", "RF", "SM", "US", "XA", "XC")
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")  # count as one: the reader has inverted MONOCHROME1
OTHER = "other"


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Image as read: its pixels, and the header's facts about them."""

    pixels: NDArray[np.float32]  # (H, W) grey or (H, W, 3) colour, in [0, 1]
    spacing: tuple[float, float] | None  # mm per row, column
    patient: str | None  # raw key, never printed
    source: str
    modality: str | None = None  # as DICOM names it: DX, CR, MR, CT ...
    photometric: str | None = None  # as DICOM names it: MONOCHROME1, MONOCHROME2, RGB ...


@dataclass(frozen=True, slots=True, eq=False)
class RawImage:
    """Result of a reader: samples of any type, (H, W) or (H, W, 3), before they are brought to [0, 1]."""

    samples: NDArray[Any]
    spacing: tuple[float, float] | None = None
    patient: str | None = None
    modality: str | None = None
    photometric: str | None = None


@dataclass(frozen=True, slots=True)
class Uids:
    """Unique identifiers of a DICOM image, as they are: for those who ask for them, never printed otherwise."""

    instance: str | None
    study: str | None
    series: str | None


@dataclass(frozen=True, slots=True)
class Plane:
    """Place of an image in the patient, by DICOM: in millimetres along left, posterior and superior."""

    corner: tuple[float, float, float]  # the centre of the first pixel
    along_row: tuple[float, float, float]  # direction in which the columns count up, of length 1
    along_column: tuple[float, float, float]
    spacing: tuple[float, float]  # between rows, between columns
    size: tuple[int, int]  # rows, columns
    frame_of_reference: str | None


@dataclass(frozen=True, slots=True)
class Header:
    """Facts of a file's header, known before its pixels are decoded; keys are raw and never printed."""

    format: str
    frames: int = 1  # images in it
    patient: str | None = None
    study: str | None = None
    position: float | None = None  # of a single slice in its study: smaller comes first
    modality: str | None = None
    photometric: str | None = None
    unread: tuple[str, ...] = ()  # elements that name patient or study, and cannot be read
    uids: Uids | None = None  # of DICOM
    plane: Plane | None = None  # of DICOM of one frame that lies somewhere in the patient
    space: NiftiSpace | None = None  # of NIfTI


@dataclass(frozen=True, slots=True)
class Slice:
    """Position of one image in a file that holds several: a frame, or a cut through a volume across an axis."""

    index: int  # from 0
    axis: Axis | None = None  # None for frames, which stay as they were stored


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Header facts about how an image was taken; None if the header does not have one."""

    kind: str | None = None  # the modality if it is one of the standard's, else OTHER
    colours: Literal["monochrome", "colour"] | None = None  # of the photometric interpretation
    size: tuple[int, int] | None = None  # rows and columns as stored

    @classmethod
    def of(cls, image: Image) -> Self:
        """Return the acquisition of an image as read."""
        kind = image.modality and (image.modality if image.modality in MODALITIES else OTHER)
        colours = image.photometric and ("monochrome" if image.photometric in MONOCHROME else "colour")
        return cls(kind or None, colours or None, (image.pixels.shape[0], image.pixels.shape[1]))  # type: ignore[arg-type]
