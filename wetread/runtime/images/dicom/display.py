"""What a DICOM object says of how it is to be shown, and of whom it is: for people who look at a picture.

Scoring does not read any of it: the network sees the pixels as they are stored.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from wetread.errors import ImageError
from wetread.runtime.images.dicom.file_header import looks_like_dicom
from wetread.runtime.images.dicom.values import Attributes, import_pydicom, parse_file
from wetread.runtime.images.limits import MAX_MEMORY

_SOP_INSTANCE = 0x00080018
# The distance of the rows, then of the columns (PS3.3, 10.7.1.3). A calibrated one counts before that of the
# detector, and that before the bare ratio of a pixel's height to its width (C.7.6.3.1.7).
_SPACINGS = (0x00280030, 0x00181164, 0x00182010, 0x00280034)
_PATIENT_ORIENTATION = 0x00200020
_OPPOSITE = {"A": "P", "P": "A", "R": "L", "L": "R", "H": "F", "F": "H"}
_UID = re.compile(r"[0-9.]{1,64}")
# Above it the ratio of a pixel's sides is taken for a mistake: no detector has such pixels.
_MOST_ASPECT = 16


@dataclass(frozen=True)
class Display:
    """How an object is shown. `aspect`: the height of a pixel over its width.

    `edges`: the directions in the patient of the picture's left, right, top and bottom edge (A, P, R, L, H,
    F, or several such letters); '' where they are not known. `uid`: the SOP Instance UID, '' without one.
    """

    aspect: float = 1.0
    edges: tuple[str, str, str, str] = ("", "", "", "")
    uid: str = ""


def read_display(data: bytes, *, max_memory: int = MAX_MEMORY) -> Display:
    """Read how a file's picture is shown: square pixels and no directions where it is no DICOM."""
    with suppress(ImageError):  # whoever reads its pixels says so
        if looks_like_dicom(data):
            attributes = parse_file(data, max_memory=max_memory).attributes
            uid = attributes.text(_SOP_INSTANCE)
            return Display(
                _read_aspect(attributes), _read_edges(attributes), uid if _UID.fullmatch(uid) else ""
            )
    return Display()


def _read_aspect(attributes: Attributes) -> float:
    for tag in _SPACINGS:
        sides = [_read_number(text) for text in attributes.texts(tag)[:2]]
        if len(sides) == 2 and all(sides):
            ratio = float(sides[0] / sides[1])
            return ratio if 1 / _MOST_ASPECT <= ratio <= _MOST_ASPECT else 1.0
    return 1.0


def _read_number(text: str) -> Fraction:
    """A positive number; 0 for anything else."""
    if len(text) > 16 or not re.fullmatch(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", text):
        return Fraction(0)
    return Fraction(text)


def _read_edges(attributes: Attributes) -> tuple[str, str, str, str]:
    right, bottom = [*attributes.texts(_PATIENT_ORIENTATION), "", ""][:2]
    known = [text if set(text) <= set(_OPPOSITE) and len(text) <= 3 else "" for text in (right, bottom)]
    left, top = ("".join(_OPPOSITE[letter] for letter in text) for text in known)
    return left, known[0], top, known[1]


def read_patient(data: bytes) -> str:
    """Return the patient's name, number and day of birth as a DICOM object has them; '' where it has none.

    Raises ImageError 'unsupported' without pydicom, for a DICOM object.
    """
    if not looks_like_dicom(data):
        return ""
    pydicom = import_pydicom("pydicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            names = ["SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate"]
            read = pydicom.dcmread(io.BytesIO(data), specific_tags=names, stop_before_pixels=True, force=True)
            values = [str(read.get(name) or "") for name in names[1:]]
        except Exception:  # noqa: BLE001 - pydicom meets damaged bytes with errors of every kind
            return ""
    return ", ".join(value for value in values if value)
