"""A score as a picture for the archive: a Secondary Capture (SC), with the notice burnt in."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from wetread.errors import UsageError
from wetread.node.results.source_image import MAKER, Origin
from wetread.packages import find_own_version, importing
from wetread.runtime.explain import Explanation
from wetread.runtime.explanation_picture import NOTICE, draw_explanation, make_caption
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.rows import Prediction

if TYPE_CHECKING:
    from pydicom import Dataset


def make_capture(
    origin: Origin, prediction: Prediction, *, spec: ModelSpec, model_name: str, found: Explanation
) -> Dataset:
    """Make the picture of an image that has a score.

    Returns a Secondary Capture object, RGB, as a pydicom Dataset: the same image and model give the same
    one, but for its dates. Raises UsageError for a prediction without a score, MissingExtraError without
    highdicom.
    """
    if prediction.label is None:
        raise UsageError(f"{prediction.path} has no score to report: its status is {prediction.status}.")
    with importing("highdicom", extra="node"):
        from highdicom.sc import SCImage
    filed = origin.filed
    caption = make_caption(spec, model=model_name, digest=origin.model_digest, identity=origin.uid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        capture = SCImage(
            pixel_array=draw_explanation(found, caption),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            study_instance_uid=filed.StudyInstanceUID,
            series_instance_uid=origin.name_series("sc"),
            series_number=origin.number_series("sc"),
            sop_instance_uid=origin.name_result("sc"),
            instance_number=origin.number,
            manufacturer=MAKER,
            patient_id=filed.PatientID or None,
            patient_name=filed.PatientName or None,
            patient_birth_date=filed.PatientBirthDate or None,
            patient_sex=filed.PatientSex or None,
            accession_number=filed.AccessionNumber or None,
            study_id=filed.StudyID or None,
            study_date=filed.StudyDate or None,
            study_time=filed.StudyTime or None,
            referring_physician_name=filed.ReferringPhysicianName or None,
            patient_orientation=("L", "F"),  # highdicom wants one; that of a composed picture is nobody's
        )
    _describe(capture, origin, model_name)
    return capture


def _describe(capture: Dataset, origin: Origin, model_name: str) -> None:
    from pydicom import Dataset

    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.PatientOrientation = capture.Laterality = None
    capture.BurnedInAnnotation = "NO"  # of what names the patient
    capture.RecognizableVisualFeatures = "NO"
    capture.DerivationDescription = f"Where {model_name} looked. {NOTICE}"
    capture.ImageComments = NOTICE
    capture.SeriesDescription = f"{model_name[:40]}: not for diagnosis"
    capture.ManufacturerModelName = MAKER
    capture.SoftwareVersions = find_own_version()
    source = Dataset()
    source.ReferencedSOPClassUID = origin.filed.SOPClassUID
    source.ReferencedSOPInstanceUID = origin.uid
    capture.SourceImageSequence = [source]
