"""Geometry of a source's pixels, as functional groups of an enhanced multi-frame image (PS3.3 C.7.6.16.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from aeflow.results.dicom.identifiers import uid
from aeflow.results.dicom.referenced_image import KEYS, ReferencedImage

MEASURES, POSITION, ORIENTATION = "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence"
GROUPS = {  # attributes of each group; without the first one the group is left out
    MEASURES: ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    POSITION: ("ImagePositionPatient",),
    ORIENTATION: ("ImageOrientationPatient",),
}

Groups = dict[str, Items]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Functional groups of each frame, and the frame of reference in which they hold."""

    frame_of_reference: UID
    in_patient: bool  # False if the source does not say where it is, and the frame of reference is the image's own
    frames: list[Groups]


def geometry(source: ReferencedImage, frames: Sequence[int | None]) -> Geometry:
    """Return where in the patient the frames are.

    A Parametric Map must name a frame of reference and place each of its frames in it. Projection images and others
    that cannot be placed get one of their own, made for this one image: its origin is the centre of the first pixel,
    its unit the pixel spacing, and it says nothing about any other image.
    """
    found = [_of_frame(source, frame) for frame in frames]
    reference = source.valid("FrameOfReferenceUID")
    if reference is not None and all(len(groups) == len(GROUPS) for groups in found):
        if reference in (source.header[keyword].value for keyword in KEYS):  # one UID, two things: forbidden
            reference = uid("frame of reference", reference)
        return Geometry(UID(reference), True, found)
    spacing = _item(PixelSpacing=source.valid("PixelSpacing") or source.valid("ImagerPixelSpacing"))
    own = [
        {
            MEASURES: groups.get(MEASURES) or spacing,
            POSITION: _item(ImagePositionPatient=[0, 0, 0]),
            ORIENTATION: _item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        }
        for groups in found
    ]
    return Geometry(uid("frame of reference", source.header.SOPInstanceUID), False, own)


def _of_frame(source: ReferencedImage, frame: int | None) -> Groups:
    """Return the groups that the source fills: an enhanced image in its own groups, others of one frame in its root."""
    header, number = source.header, frame or 1
    of_each, of_all = (header.get(f"{kind}FunctionalGroupsSequence") or [] for kind in ("PerFrame", "Shared"))
    enhanced = [*of_each[number - 1 : number], *of_all[:1]]
    groups: Groups = {}
    for name, keywords in GROUPS.items():
        items = [place[name][0] for place in enhanced if place.get(name)]
        if not enhanced and not source.several:
            items = [header]
        values = {
            keyword: value
            for item in reversed(items)
            for keyword in keywords
            if (value := source.valid(keyword, item)) is not None
        }
        if keywords[0] in values:
            groups[name] = _item(**values)
    return groups


def _item(**values: object) -> Items:
    item = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(item, keyword, value)
    return Items([item])
