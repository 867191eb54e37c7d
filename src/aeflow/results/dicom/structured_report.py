"""Structured Report after TID 1500, unverified: one measurement group for each scored image."""

from __future__ import annotations

from collections.abc import Sequence

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
from aeflow.results.dicom.identifiers import NAME, WARNING, ModelIdentity, Result, identity, uid
from aeflow.results.dicom.referenced_image import ReferencedImage

SCHEME = "99AEFLOW"  # 99: a private coding scheme (PS3.16 chapter 8); no standard one knows these terms
MAX_MEANING = 64  # characters of a code's meaning


def report(
    source: ReferencedImage, results: Sequence[Result], made: Sequence[Dataset], model: ModelIdentity
) -> ComprehensiveSR:
    """Build the report on a source's scored images; ``made`` are the other results that were written beside it."""
    frames = [result.frame for result in results]
    fingerprint = model.fingerprint
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
        imaging_measurements=[_group(source, result, model) for result in results],
    )
    evidence = source.stand_in()
    document = ComprehensiveSR(
        evidence=[evidence, *made],
        content=content,
        **identity(source, model, "report", frames, f"Anomaly report, {WARNING.lower()}"),
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name=NAME, responsible_organization=NAME)],
    )
    for study in document.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:
                if item.ReferencedSOPInstanceUID == source.header.SOPInstanceUID:
                    item.ReferencedSOPClassUID = source.header.SOPClassUID
    source.file(document)
    return document


def _group(source: ReferencedImage, result: Result, model: ModelIdentity) -> MeasurementsAndQualitativeEvaluations:
    """Build the group of one image: its measurements, the algorithm, and the verdict."""
    score, calibration, frame = result.score, model.calibration, result.frame
    reference = source.reference([frame])
    verdict = codes.SCT.Abnormal if score.verdict == "abnormal" else codes.SCT.Normal
    evaluations = [
        QualitativeEvaluation(_own("VERDICT", "Verdict of the model"), verdict),
        QualitativeEvaluation(_own("USE", "Intended use"), _own("RESEARCH", WARNING)),
    ]
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


def _own(code: str, meaning: str) -> CodedConcept:
    return CodedConcept(code, SCHEME, meaning[:MAX_MEANING])


def _meaning(term: str) -> str:
    """Return a term's meaning in words."""
    name = "class" if term == POSTERIOR else term.replace("_", " ")
    return f"{name.capitalize()} term of the score"


def _number(code: str, meaning: str, value: float) -> Measurement:
    return Measurement(name=_own(code, meaning), value=value, unit=codes.UCUM.NoUnits)
