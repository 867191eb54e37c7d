"""Overlay: an image with its anomaly map in colour, as a DICOM Secondary Capture for any viewer."""

from __future__ import annotations

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

from aeflow._types import Floats32
from aeflow._version import __version__
from aeflow.imageio.errors import ImageError
from aeflow.reporting.overlay import Bytes, caption
from aeflow.reporting.overlay import blend as on_grey
from aeflow.reporting.p_value import p_term
from aeflow.results.dicom.identifiers import NAME, WARNING, ModelIdentity, Result, identity
from aeflow.results.dicom.referenced_image import REMEDY_EXPORT_FROM_ARCHIVE, ReferencedImage

MIN_WIDTH = 512  # pixels; text in less cannot be read


def picture(result: Result, pixels: Floats32, model: ModelIdentity) -> Bytes:
    """Draw the RGB picture of an overlay (H, W, 3): the coloured image, and below it text and colour bar."""
    score, scale = result.score, model.calibration.map_limits["anomaly"]
    image = blend(pixels, score.maps["anomaly"], scale)
    said = "called abnormal" if score.verdict == "abnormal" else "not above the threshold"  # no finding of normality
    value = f"score {score.value:.3g} (threshold {score.threshold:.3g})"  # without which nobody knows if it is high
    words = f"{NAME} {__version__}: {value}, {p_term(score.p_value, score.smallest_p)}, {said}"
    lines = [WARNING, words, *(["Outside the intended input of the model"] if result.outside else [])]
    return np.concatenate([image, caption(image.shape[1], lines, scale)])


def overlay(source: ReferencedImage, result: Result, pixels: Floats32, model: ModelIdentity) -> SCImage:
    """Build the Secondary Capture of an image ``pixels`` (rows, columns) in [0, 1] as its reader gave it."""
    if pixels.shape[:2] != source.shape:
        read, stated = (f"{rows} x {columns}" for rows, columns in (pixels.shape[:2], source.shape))
        found = f"{read} pixels were read where its header says {stated}"
        raise ImageError(source.path, found, REMEDY_EXPORT_FROM_ARCHIVE)
    frames = [result.frame]
    made = SCImage(
        pixel_array=picture(result, pixels, model),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # highdicom wants one; the source's replaces it
        study_instance_uid=source.header.StudyInstanceUID,
        **identity(source, model, "overlay", frames, f"Anomaly overlay, {WARNING.lower()}"),
    )
    source.file_image(made, frames)
    made.PatientOrientation = source.valid("PatientOrientation")
    # It says if an image shows whose it is: our text does not, and what the source shows is still there.
    if (burnt_in := source.valid("BurnedInAnnotation")) is not None:
        made.BurnedInAnnotation = burnt_in
    if (spacing := source.valid("PixelSpacing")) is not None:
        made.PixelSpacing = [DSfloat(value / enlargement(source.shape[1]), auto_format=True) for value in spacing]
    made.SourceImageSequence[0].PurposeOfReferenceCodeSequence = [
        CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    made.DerivationDescription = "Grey image under the colours of an anomaly map"
    return made


def blend(pixels: Floats32, score_map: Floats32, scale: tuple[float, float]) -> Bytes:
    """Draw the coloured image (k H, k W, 3); one below ``MIN_WIDTH`` is enlarged to it, each pixel to k x k."""
    k = enlargement(pixels.shape[1])
    return on_grey(pixels.repeat(k, axis=0).repeat(k, axis=1), score_map, scale)


def enlargement(columns: int) -> int:
    """Return the whole number by which an image of so many columns is enlarged."""
    return -(-MIN_WIDTH // columns)
