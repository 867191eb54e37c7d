"""An image with its anomaly map in colour -> a DICOM Secondary Capture for any viewer."""

from __future__ import annotations

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

from aeflow import __version__
from aeflow.dicom_out.identity import NAME, WARNING, Maker, Result, identity
from aeflow.dicom_out.render import Bytes, Floats, blend, caption, enlargement
from aeflow.dicom_out.source import AGAIN, Source
from aeflow.errors import ImageError


def picture(result: Result, pixels: Floats, maker: Maker) -> Bytes:
    """The RGB picture of an overlay (H, W, 3): the coloured image, and below it words and colour bar."""
    score, scale = result.score, maker.calibration.scales["anomaly"]
    image = blend(pixels, score.maps["anomaly"], scale)
    words = f"{NAME} {__version__}: score {score.value:.3g}, p = {score.p_value:.2g}, called {score.verdict}"
    lines = [WARNING, words, *(["Outside the intended input of the model"] if result.outside else [])]
    return np.concatenate([image, caption(image.shape[1], lines, scale)])


def overlay(source: Source, result: Result, pixels: Floats, maker: Maker) -> SCImage:
    """The Secondary Capture of an image ``pixels`` (rows, columns) in [0, 1] as its reader gave it."""
    if pixels.shape[:2] != source.shape:
        read, said = (f"{rows} x {columns}" for rows, columns in (pixels.shape[:2], source.shape))
        found = f"{read} pixels were read where its header says {said}"
        raise ImageError(source.path, found, AGAIN)
    frames = [result.frame]
    made = SCImage(
        pixel_array=picture(result, pixels, maker),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # highdicom wants one; the source's replaces it
        study_instance_uid=source.header.StudyInstanceUID,
        **identity(source, maker, "overlay", frames, f"Anomaly overlay, {WARNING.lower()}"),
    )
    source.file_image(made, frames)
    made.PatientOrientation = source.valid("PatientOrientation")
    # It tells whether an image shows who it is of: our words do not, and what the source shows is still there.
    if (burnt_in := source.valid("BurnedInAnnotation")) is not None:
        made.BurnedInAnnotation = burnt_in
    if (spacing := source.valid("PixelSpacing")) is not None:
        made.PixelSpacing = [DSfloat(value / enlargement(source.shape[1]), auto_format=True) for value in spacing]
    made.SourceImageSequence[0].PurposeOfReferenceCodeSequence = [
        CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    made.DerivationDescription = "Grey image under the colours of an anomaly map"
    return made
