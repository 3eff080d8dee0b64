"""What a result takes over from its image, and the identifiers that are derived from image and model.

A result carries only what an archive files it by: the patient, the study, and a reference to the image.
"""

from __future__ import annotations

import io
import re
import struct
import uuid
import warnings
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from wetread.errors import ImageError, Status
from wetread.packages import importing

if TYPE_CHECKING:
    from pydicom import Dataset

MAKER = "wetread"
# Attributes that an archive files an object by (PS3.3, C.7.1.1 and C.7.2.1), and those of the image itself.
_TEXTS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_DATE = re.compile(r"\d{8}")
_FORMS = {
    "PatientBirthDate": _DATE,
    "PatientSex": re.compile("[MFO]"),
    "StudyDate": _DATE,
    "StudyTime": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "AccessionNumber": re.compile(r"[^\\\x00-\x1f]{1,16}"),
    "StudyID": re.compile(r"[^\\\x00-\x1f]{1,16}"),
}
_IMAGE = ("IssuerOfPatientID", "Modality", "InstanceNumber", "Rows", "Columns")
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# What pydicom raises of bytes that are damaged.
_DAMAGED = (ValueError, TypeError, LookupError, AttributeError, OSError, NotImplementedError, struct.error)
_NUMBER = 9000  # of the first series; people number theirs from 1


@dataclass(frozen=True)
class Origin:
    """An image as its results need it: the attributes it is filed by, and the digest of the model's file."""

    filed: Dataset
    model_digest: str

    @property
    def uid(self) -> str:
        """The SOP Instance UID of the image."""
        return str(self.filed.SOPInstanceUID)

    @property
    def number(self) -> int:
        """The Instance Number of the image, 1 where it has none."""
        return int(self.filed.get("InstanceNumber") or 1)

    def name_result(self, kind: str) -> str:
        """Derive the SOP Instance UID of a result, 'sr' or 'sc': the same image and model, the same UID."""
        return derive_uid(kind, self.uid, self.model_digest)

    def name_series(self, kind: str) -> str:
        """Derive the Series Instance UID of all results of a kind in the image's study."""
        return derive_uid("series", kind, str(self.filed.StudyInstanceUID), self.model_digest)

    def number_series(self, kind: str) -> int:
        """Return the Series Number of a kind of result."""
        return _NUMBER + ("sr", "sc").index(kind)


def derive_uid(*words: str) -> str:
    """Derive a DICOM UID from texts: a name-based UUID (RFC 9562, 5.5) under the root 2.25 (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join((MAKER, *words))).int}"


def read_origin(data: bytes, *, model_digest: str) -> Origin:
    """Read what results need of a DICOM file's bytes.

    Raises ImageError 'unsupported' where an attribute is missing without which an archive cannot file a
    result, or 'truncated' where the file cannot be read; MissingExtraError without pydicom.
    """
    with importing("pydicom", extra="node"):
        import pydicom
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break a rule are taken over as they are
        try:
            read = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
            filed = _copy_filed(read)
        except _DAMAGED as error:
            raise ImageError(Status.TRUNCATED, f"Its attributes cannot be read: {error}.") from error
    missing = [name for name in _NEEDED if not filed.get(name)]
    if missing:
        raise ImageError(
            Status.UNSUPPORTED, f"No result can be filed with it: it has no {' and no '.join(missing)}."
        )
    return Origin(filed, model_digest)


def is_own_result(data: bytes) -> bool:
    """Tell whether a DICOM object is a result of a wetread node, whatever its model was."""
    with importing("pydicom", extra="node"):
        import pydicom
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            names = ["Manufacturer", "SeriesInstanceUID", "SOPInstanceUID"]
            found = pydicom.dcmread(io.BytesIO(data), specific_tags=names, force=True)
            return found.get("Manufacturer") == MAKER and str(found.get("SOPInstanceUID")).startswith("2.25.")
        except _DAMAGED:
            return False


def _copy_filed(read: Dataset) -> Dataset:
    from pydicom import Dataset

    filed = Dataset()
    for name in _TEXTS:
        value = str(read.get(name) or "")
        # A value that breaks its attribute's rule would end in an object that no archive takes, or in none.
        setattr(filed, name, value if _fits(name, value) else "")
    for name in (*_IMAGE, *_NEEDED):
        if read.get(name):
            setattr(filed, name, read.get(name))
    return filed


def _fits(name: str, value: str) -> bool:
    """Tell whether a value has its attribute's form, and is a day of the calendar where it is a date."""
    form = _FORMS.get(name)
    if form is None:
        return True
    try:
        return form.fullmatch(value) is not None and (form is not _DATE or bool(date.fromisoformat(value)))
    except ValueError:
        return False
