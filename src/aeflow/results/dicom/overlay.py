"""Overlay: an image with its anomaly map in colour, as a DICOM Secondary Capture for any viewer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from PIL import ImageDraw
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

from aeflow._types import Floats32
from aeflow._version import __version__
from aeflow.imageio.errors import ImageError
from aeflow.reporting.heat_colours import HEAT, ramp_of
from aeflow.reporting.letters import letters
from aeflow.results.dicom.identifiers import NAME, WARNING, ModelIdentity, Result, identity
from aeflow.results.dicom.parametric_map import resample
from aeflow.results.dicom.referenced_image import REMEDY_EXPORT_FROM_ARCHIVE, ReferencedImage

Bytes = NDArray[np.uint8]
MIN_WIDTH = 512  # pixels; text in less cannot be read
PAPER, INK = (16, 16, 16), (235, 235, 235)
MAX_LINE_WIDTH = 0.96  # share of the width that the longest line may take
MIN_LETTER, MAX_LETTER = 9, 1 / 40  # height of letters in pixels, and as a share of the width
BAR_HEIGHT, LINE = 0.7, 1.5  # in heights of letters


def picture(result: Result, pixels: Floats32, model: ModelIdentity) -> Bytes:
    """Draw the RGB picture of an overlay (H, W, 3): the coloured image, and below it text and colour bar."""
    score, scale = result.score, model.calibration.map_limits["anomaly"]
    image = blend(pixels, score.maps["anomaly"], scale)
    words = f"{NAME} {__version__}: score {score.value:.3g}, p = {score.p_value:.2g}, called {score.verdict}"
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
    """Draw the image (H, W) or (H, W, 3) in [0, 1] in grey under the colours of its map (h, w): RGB (k H, k W, 3).

    Clear at ``low`` and below, full at ``high`` and above, as the galleries colour it. Small images are enlarged by the
    whole number ``k`` that makes them ``MIN_WIDTH`` wide, each pixel to k x k; the map is resampled to all of them.
    """
    low, high = scale
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=-1, dtype=np.float32)
    k = enlargement(grey.shape[1])
    grey = grey.repeat(k, axis=0).repeat(k, axis=1)
    level = (resample(score_map, grey.shape) - low) / (high - low)
    steps = len(HEAT)
    heat = HEAT.astype(np.float32)[(level * steps).clip(0, steps - 1).astype(np.intp)]
    mixed = grey[..., None] + heat[..., 3:] * (heat[..., :3] - grey[..., None])
    return np.asarray((255 * mixed.clip(0, 1)).round().astype(np.uint8))


def enlargement(columns: int) -> int:
    """Return the whole number by which an image of so many columns is enlarged."""
    return -(-MIN_WIDTH // columns)


def caption(width: int, lines: Sequence[str], scale: tuple[float, float]) -> Bytes:
    """Draw a band (height, width, 3) to go below a picture: lines of text, then the colour bar between its two ends."""
    low, high = (f"{end:.3g}" for end in scale)
    left, right = f"{low} (in 90 % of normals)", f"{high} (in 99.9 %)"
    widest = max(letters(100).getlength(text) for text in (*lines, f"{left}{' ' * 20}{right}"))
    size = max(MIN_LETTER, int(min(width * MAX_LETTER, 100 * MAX_LINE_WIDTH * width / widest)))
    font, step, margin = letters(size), round(LINE * size), size // 2
    band = PIL.Image.new("RGB", (width, step * (len(lines) + 1) + margin), PAPER)
    draw = ImageDraw.Draw(band)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * step), line, INK, font)
    top = margin + len(lines) * step
    draw.text((margin, top), left, INK, font)
    draw.text((width - margin, top), right, INK, font, anchor="ra")
    start = round(margin + font.getlength(left + " "))
    stop = round(width - margin - font.getlength(right + " "))
    if stop > start:
        ramp = ramp_of(stop - start)[None]
        band.paste(PIL.Image.fromarray(ramp.repeat(round(BAR_HEIGHT * size), axis=0)), (start, top + size // 4))
    return np.asarray(band)
