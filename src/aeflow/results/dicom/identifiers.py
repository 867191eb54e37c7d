"""Identity of results: model, and UIDs that are the same for the same model, threshold and source, at any time."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom.uid import UID

from aeflow._version import __version__
from aeflow.calibration.calibration import Calibration
from aeflow.scoring.scorer import Score

if TYPE_CHECKING:
    from aeflow.results.dicom.referenced_image import ReferencedImage

NAME = "aeflow"
WARNING = "Research use, not a medical device"
# A namespace of our own, so that our UIDs never equal those that others derive from the same names.
NAMESPACE = uuid.UUID("6f1b5c0e-2f0a-4b0e-9d1c-2a7f6f0d9a41")
SERIES = {"map": 901, "overlay": 902, "report": 903}
SERIES_STEP = 1000  # results of series 3 are series 3901, 3902 and 3903


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Model that made a result: the fingerprint of its run (SHA-256 of ``model.json``) and its calibration."""

    fingerprint: str
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Result:
    """Score of one image of a source, with its maps."""

    score: Score
    frame: int | None = None  # its number in the source, from 1; None if the source holds a single image
    outside: tuple[str, ...] | None = None  # why it is outside the intended input; None if that was not asked


def uid(*parts: object) -> UID:
    """Return the same UID for the same parts: a name-based UUID (RFC 9562, version 5) under the root 2.25."""
    return UID(f"2.25.{uuid.uuid5(NAMESPACE, '/'.join(map(str, parts))).int}")


def identity(
    source: ReferencedImage,
    model: ModelIdentity,
    kind: str,
    frames: Sequence[int | None],
    description: str,
    *,
    alone: bool = False,
) -> dict[str, Any]:
    """Return series, instance and equipment of a result, as highdicom's constructors take them.

    Results of one kind on the images of one series form a series. One with a frame of reference of its own stands
    ``alone``, as a series by itself.
    """
    header, of = source.header, "SOPInstanceUID" if alone else "SeriesInstanceUID"
    named = [frame for frame in frames if frame is not None]
    threshold = _threshold(model)
    number = SERIES[kind] + SERIES_STEP * (source.number("SeriesNumber") or 0)
    return {
        "series_instance_uid": uid(model.fingerprint, kind, "series", header[of].value),
        "series_number": number if number < 2**31 else SERIES[kind],
        "series_description": description,
        "sop_instance_uid": uid(
            model.fingerprint, threshold, kind, header.SOPInstanceUID, *named, *filter(None, [source.content])
        ),
        "instance_number": (named[0] if len(frames) == 1 and named else source.number("InstanceNumber")) or 1,
        "manufacturer": NAME,
        "manufacturer_model_name": NAME,
        "software_versions": __version__,
        "device_serial_number": model.fingerprint,
    }


def study_identity(source: ReferencedImage, model: ModelIdentity, content: str, description: str) -> dict[str, Any]:
    """Return the same of a report on many images of the study of ``source``; ``content`` says which they are."""
    study = source.header.StudyInstanceUID
    return {
        **identity(source, model, "report", [None], description),
        "series_instance_uid": uid(model.fingerprint, "report", "study", study),
        "series_number": SERIES["report"],
        "sop_instance_uid": uid(model.fingerprint, _threshold(model), "report", "study", study, content),
        "instance_number": 1,
    }


def _threshold(model: ModelIdentity) -> str:
    """Return the threshold as part of a UID: it may be named for each score, and is in the report."""
    return f"threshold {model.calibration.threshold!r}"
