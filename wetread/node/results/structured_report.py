"""A score as a structured report (SR): TID 1500, Measurement Report, in a Comprehensive SR object.

    Imaging Measurement Report
      Device observer: the model, by name, digest and version of wetread
      Imaging measurements of the image
        Algorithm: name, digest, threshold, "Not a medical device; not for diagnosis."
        Probability of PNEUMONIA = 0.93
        Finding = PNEUMONIA

It is unverified and preliminary: nobody has looked at it (PS3.3, C.17.2).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from wetread.errors import UsageError
from wetread.node.results.source_image import MAKER, Origin, derive_uid
from wetread.packages import find_own_version, importing
from wetread.runtime.explanation_picture import NOTICE
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.rows import Prediction

if TYPE_CHECKING:
    from pydicom import Dataset

_SCHEME = "99WETREAD"
_MEANING, _CODE = 64, 16  # the longest Code Meaning and Code Value (PS3.5, 6.2: LO, SH)


def make_report(origin: Origin, prediction: Prediction, *, spec: ModelSpec, model_name: str) -> Dataset:
    """Make the report of an image that has a score.

    Returns a Comprehensive SR object as a pydicom Dataset: the same image and model give the same one, but
    for its dates. Raises UsageError for a prediction without a score, MissingExtraError without highdicom.
    """
    if prediction.label is None:
        raise UsageError(f"{prediction.path} has no score to report: its status is {prediction.status}.")
    with importing("highdicom", extra="node"):
        from highdicom.sr import ComprehensiveSR
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = ComprehensiveSR(
            evidence=[origin.filed],
            content=_make_content(origin, prediction, spec, model_name),
            series_instance_uid=origin.name_series("sr"),
            series_number=origin.number_series("sr"),
            sop_instance_uid=origin.name_result("sr"),
            instance_number=origin.number,
            manufacturer=MAKER,
            is_complete=True,
            is_final=False,
            is_verified=False,
        )
    report.CodingSchemeIdentificationSequence = [_identify_scheme()]
    report.ManufacturerModelName = MAKER
    report.SoftwareVersions = find_own_version()
    report.SeriesDescription = f"{model_name[:40]}: not for diagnosis"
    return report


def _identify_scheme() -> Dataset:
    """Say whose codes those of the labels are: nobody has registered them (PS3.3, C.12.1.1.1)."""
    from pydicom import Dataset

    scheme = Dataset()
    scheme.CodingSchemeDesignator = _SCHEME
    scheme.CodingSchemeName = "Labels of the wetread model that made this report"
    scheme.CodingSchemeResponsibleOrganization = MAKER
    return scheme


def _make_content(origin: Origin, prediction: Prediction, spec: ModelSpec, model_name: str) -> Any:
    from highdicom.sr import (
        CodedConcept,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        ObserverContext,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=derive_uid("model", origin.model_digest),
        name=model_name[:_MEANING],
        manufacturer_name=MAKER,
        model_name=f"{MAKER} {find_own_version()}",
        serial_number=origin.model_digest,
    )
    measured = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derive_uid("tracking", origin.uid, origin.model_digest), identifier="score"
        ),
        algorithm_id=_identify(prediction, spec, model_name, origin.model_digest),
        measurements=_measure(prediction, spec),
        qualitative_evaluations=_evaluate(prediction),
        source_images=[_refer(origin)],
    )
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=device
            )
        ),
        procedure_reported=CodedConcept.from_code(codes.SCT.ImagingProcedure),
        imaging_measurements=[measured],
    )


def _identify(prediction: Prediction, spec: ModelSpec, model_name: str, digest: str) -> Any:
    from highdicom.sr import AlgorithmIdentification

    parameters = [f"threshold {spec.threshold:g}"] if len(spec.labels) == 2 else []
    parameters += [f"{name} {value}" for name, value in prediction.optional.items() if value is not None]
    return AlgorithmIdentification(name=model_name, version=digest, parameters=[*parameters, NOTICE])


def _measure(prediction: Prediction, spec: ModelSpec) -> list[Any]:
    """The probability of every label, 0 to 1."""
    from highdicom.sr import CodedConcept, Measurement
    from pydicom.sr.codedict import codes

    return [
        Measurement(
            name=CodedConcept(f"P{index}", _SCHEME, _shorten(f"Probability of {label}")),
            value=value,
            unit=codes.UCUM.NoUnits,
        )
        for index, (label, value) in enumerate(zip(spec.labels, prediction.probabilities, strict=True))
    ]


def _evaluate(prediction: Prediction) -> list[Any]:
    from highdicom.sr import CodedConcept, QualitativeEvaluation
    from pydicom.sr.codedict import codes

    label = str(prediction.label)
    code = label if len(label) <= _CODE and label.isascii() else f"L{derive_uid('label', label)[-14:]}"
    value = CodedConcept(code, _SCHEME, _shorten(label))
    return [QualitativeEvaluation(name=CodedConcept.from_code(codes.DCM.Finding), value=value)]


def _shorten(text: str) -> str:
    return text if len(text) <= _MEANING else f"{text[: _MEANING - 1]}…"


def _refer(origin: Origin) -> Any:
    from highdicom.sr import SourceImageForMeasurementGroup

    return SourceImageForMeasurementGroup(str(origin.filed.SOPClassUID), origin.uid)
