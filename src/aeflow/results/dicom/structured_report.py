"""Structured Report after TID 1500, unverified, of a file or a study: a measurement group for each scored image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from aeflow._version import __version__
from aeflow.model.output_names import POSTERIOR
from aeflow.results.dicom.identifiers import NAME, WARNING, ModelIdentity, Result, identity, study_identity, uid
from aeflow.results.dicom.referenced_image import ReferencedImage
from aeflow.scoring.studies import Study

DESCRIPTION = f"Anomaly report, {WARNING.lower()}"
SCHEME = "99AEFLOW"  # 99: a private coding scheme (PS3.16 chapter 8); no standard one knows these terms
MAX_MEANING = 64  # characters of a code's meaning


def report(
    source: ReferencedImage, results: Sequence[Result], made: Sequence[Dataset], model: ModelIdentity
) -> ComprehensiveSR:
    """Build the report on a source's scored images; ``made`` are the other results that were written beside it."""
    frames = [result.frame for result in results]
    groups = [_group(source, result, model) for result in results]
    return _document(source, [source], groups, made, identity(source, model, "report", frames, DESCRIPTION))


def study_report(
    filed: ReferencedImage,
    images: Sequence[tuple[ReferencedImage, Result]],
    study: Study | None,
    made: Sequence[Dataset],
    model: ModelIdentity,
    content: str,
    replaced: Sequence[Dataset] = (),
) -> ComprehensiveSR:
    """Build one report on images of a study, filed under the patient and study of ``filed``.

    ``study`` is the result of all its images together, if there are several. ``content`` goes into the UID: reports on
    other images, or on others' pixels, have other ones. ``replaced`` are the keys of the reports that this one
    replaces (Predecessor Documents Sequence, PS3.3 C.17.2).
    """
    groups = [] if study is None else [_study_group(filed, study, model)]
    groups += [_group(source, result, model) for source, result in images]
    sources = list({source.header.SOPInstanceUID: source for source, _ in images}.values())
    named = study_identity(filed, model, content, DESCRIPTION)
    return _document(filed, sources, groups, made, named, replaced)


def _document(
    filed: ReferencedImage,
    sources: Sequence[ReferencedImage],
    groups: Sequence[MeasurementsAndQualitativeEvaluations],
    made: Sequence[Dataset],
    named: dict[str, Any],
    replaced: Sequence[Dataset] = (),
) -> ComprehensiveSR:
    """Build the document of measurement groups on images of one study."""
    fingerprint = named["device_serial_number"]
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=uid("device", fingerprint),
            name=NAME,
            manufacturer_name=NAME,
            model_name=NAME,
            serial_number=fingerprint,
        ),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
    )
    document = ComprehensiveSR(
        evidence=[*(source.stand_in() for source in sources), *made],
        content=content,
        **named,
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name=NAME, responsible_organization=NAME)],
        previous_versions=replaced or None,
    )
    classes = {source.header.SOPInstanceUID: source.header.SOPClassUID for source in sources}
    for study in document.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:
                item.ReferencedSOPClassUID = classes.get(item.ReferencedSOPInstanceUID, item.ReferencedSOPClassUID)
    filed.file(document)
    return document


def _study_group(filed: ReferencedImage, study: Study, model: ModelIdentity) -> MeasurementsAndQualitativeEvaluations:
    """Build the group of a study as a whole: the score and p-value of ``scoring.studies``."""
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=uid(model.fingerprint, "tracking", "study", filed.header.StudyInstanceUID),
            identifier=f"Anomaly score of the study, {study.images} images",
        ),
        measurements=[
            _number("STUDY_SCORE", "Mean score of the highest tenth of the images", study.score),
            _number("STUDY_P_VALUE", "p-value of the study after Simes", study.p_value),
            _number("STUDY_IMAGES", "Images of the study that were scored", study.images),
            _number("STUDY_REFUSED", "Images of the study that could not be read", study.refused),
        ],
        qualitative_evaluations=[_verdict(study.verdict), _research()],
    )


def _group(source: ReferencedImage, result: Result, model: ModelIdentity) -> MeasurementsAndQualitativeEvaluations:
    """Build the group of one image: its measurements, the algorithm, and the verdict."""
    score, calibration, frame = result.score, model.calibration, result.frame
    reference = source.reference([frame])
    evaluations = [_verdict(score.verdict), _research()]
    if result.outside is not None:
        answer = codes.SCT.Yes if result.outside else codes.SCT.No
        evaluations.append(QualitativeEvaluation(_own("OUTSIDE", "Outside the model's intended input"), answer))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=uid(model.fingerprint, "tracking", source.header.SOPInstanceUID, frame or 1),
            identifier="Anomaly score" if frame is None else f"Anomaly score of frame {frame}",
        ),
        algorithm_id=AlgorithmIdentification(
            name=NAME,
            version=__version__,
            parameters=[f"run fingerprint {model.fingerprint}", f"threshold: {calibration.rule}"],
            manufacturer=NAME,
        ),
        measurements=[
            _number("SCORE", "Anomaly score, higher is more abnormal", score.value),
            _number("P_VALUE", "Share of held-out normals that score as high", score.p_value),
            _number("THRESHOLD", "Anomaly score above which an image is called abnormal", calibration.threshold),
            *(_number(f"TERM_{name}".upper()[:16], _meaning(name), value) for name, value in score.terms.items()),
            *(
                _number(f"PROBABILITY_{number}", f"Probability of {kind}", probability)
                for number, (kind, probability) in enumerate(score.posterior.items())
            ),
        ],
        qualitative_evaluations=evaluations,
        source_images=[
            SourceImageForMeasurementGroup(
                reference.ReferencedSOPClassUID,
                reference.ReferencedSOPInstanceUID,
                [frame] if frame is not None and "ReferencedFrameNumber" in reference else None,
            )
        ],
    )


def _verdict(verdict: str) -> QualitativeEvaluation:
    """Return the verdict; that a score is not above the threshold is no finding that a patient is normal."""
    below = _own("NOT_ABOVE", "Not above the threshold")
    return QualitativeEvaluation(
        _own("VERDICT", "Verdict of the model"), codes.SCT.Abnormal if verdict == "abnormal" else below
    )


def _research() -> QualitativeEvaluation:
    return QualitativeEvaluation(_own("USE", "Intended use"), _own("RESEARCH", WARNING))


def _own(code: str, meaning: str) -> CodedConcept:
    return CodedConcept(code, SCHEME, meaning[:MAX_MEANING])


def _meaning(term: str) -> str:
    """Return a term's meaning in words."""
    name = "class" if term == POSTERIOR else term.replace("_", " ")
    return f"{name.capitalize()} term of the score"


def _number(code: str, meaning: str, value: float) -> Measurement:
    return Measurement(name=_own(code, meaning), value=value, unit=codes.UCUM.NoUnits)
