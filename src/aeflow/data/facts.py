"""What a file says about how its image was taken, in a few words of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from aeflow.data.image import Image

# Terms of the DICOM standard. Any other counts as OTHER, so that no text of a header gets into a model.
MODALITIES = ("CR", "CT", "DX", "ES", "MG", "MR", "NM", "OP", "OPT", "PT", "PX", "RF", "SM", "US", "XA", "XC")
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")  # one kind: the reader has turned both the same way round
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says about how its image was taken; None where it says nothing."""

    kind: str | None = None  # the modality, where it is one of the standard's, else OTHER
    colours: Literal["monochrome", "colour"] | None = None  # of the photometric interpretation
    size: tuple[int, int] | None = None  # rows and columns as stored

    @classmethod
    def of(cls, image: Image) -> Self:
        """Those of an image as read."""
        kind = image.modality and (image.modality if image.modality in MODALITIES else OTHER)
        colours = image.photometric and ("monochrome" if image.photometric in MONOCHROME else "colour")
        return cls(kind or None, colours or None, (image.pixels.shape[0], image.pixels.shape[1]))  # type: ignore[arg-type]
