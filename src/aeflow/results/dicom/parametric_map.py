"""Parametric Map: anomaly maps in float32 at the source's rows and columns, a frame for each scored one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes

from aeflow.imageio.errors import ImageError
from aeflow.reporting.overlay import resample
from aeflow.results.dicom.geometry import MEASURES, ORIENTATION, POSITION, Groups, geometry
from aeflow.results.dicom.identifiers import ModelIdentity, Result, identity, uid
from aeflow.results.dicom.referenced_image import ReferencedImage

DIMENSIONS = "DimensionIndexSequence"
MAX_BYTES = 2**30  # of a map's pixels; DICOM itself ends at 4 GiB
UNITS = codes.UCUM.NoUnits  # of a sum of terms, though each is in standard deviations of normal places
MEANING = "Anomaly map, sum of the terms, each standardised"


def parametric_map(source: ReferencedImage, results: Sequence[Result], model: ModelIdentity) -> ParametricMap:
    """Build the map of scored frames, in their order; raises ImageError if they are too many for one object."""
    rows, columns = source.shape
    needed = 4 * rows * columns * len(results)
    if needed > MAX_BYTES:
        found = f"a Parametric Map of {len(results)} frames would hold {needed} bytes where the limit is {MAX_BYTES}"
        raise ImageError(source.path, found, "score fewer frames at a time")
    frames = [result.frame for result in results]
    place = geometry(source, frames)
    pixels = np.stack([resample(result.score.maps["anomaly"], source.shape) for result in results])
    low, high = model.calibration.map_limits["anomaly"]
    made = ParametricMap(
        source_images=[source.stand_in()],
        pixel_array=pixels[:1],
        **identity(source, model, "map", frames, MEANING, alone=not place.in_patient),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping("ANOMALY", MEANING, UNITS, (float(pixels.min()), float(pixels.max())))
        ],
        voi_lut_transformations=[VOILUTTransformation((low + high) / 2, high - low, voi_lut_function="LINEAR_EXACT")],
        image_flavor="VOLUME" if place.in_patient else "STATIC",
        content_label="ANOMALY_MAP",
        content_description=MEANING,
    )
    made.FloatPixelData = pixels.tobytes()
    made.NumberOfFrames = len(results)
    made.FrameOfReferenceUID = place.frame_of_reference
    _place_frames(made, source, frames, place.frames)
    source.file_image(made, frames)
    return made


def _place_frames(
    made: ParametricMap, source: ReferencedImage, frames: Sequence[int | None], places: Sequence[Groups]
) -> None:
    """Set for each frame which one of the source it belongs to and where it is; what all share is set once."""
    shared, first = made.SharedFunctionalGroupsSequence[0], made.PerFrameFunctionalGroupsSequence[0]
    common = {
        name: items
        for name, items in places[0].items()
        if name != POSITION and all(place[name] == items for place in places)
    }
    for name in (MEASURES, ORIENTATION):
        delattr(shared, name)
        if name in common:
            setattr(shared, name, common[name])
    derivation = first.DerivationImageSequence[0].DerivationCodeSequence
    made.PerFrameFunctionalGroupsSequence = [
        _frame(source, frame, index, {name: place[name] for name in place.keys() - common.keys()}, derivation)
        for index, (frame, place) in enumerate(zip(frames, places, strict=True), 1)
    ]
    organization, dimension = Dataset(), Dataset()
    organization.DimensionOrganizationUID = dimension.DimensionOrganizationUID = uid("dimension", made.SOPInstanceUID)
    dimension.DimensionIndexPointer = tag_for_keyword("FrameLabel")
    dimension.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
    dimension.DimensionDescriptionLabel = "Frame of the source"
    made.DimensionOrganizationSequence = [organization]
    made[DIMENSIONS].value = Items([dimension])


def _frame(source: ReferencedImage, frame: int | None, index: int, groups: Groups, derivation: Items) -> Dataset:
    """Build the functional groups of one frame of a map."""
    content, derived, reference, item = Dataset(), Dataset(), source.reference([frame]), Dataset()
    content.DimensionIndexValues = [index]
    content.FrameLabel = f"Frame {frame or 1}"
    reference.SpatialLocationsPreserved = "YES"
    reference.PurposeOfReferenceCodeSequence = [
        CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    derived.DerivationCodeSequence, derived.SourceImageSequence = derivation, [reference]
    item.FrameContentSequence, item.DerivationImageSequence = [content], [derived]
    for name, sequence in groups.items():
        setattr(item, name, sequence)
    return item
