from __future__ import annotations

import pytest

from tests.runtime.images.dicom.drawing import draw_xray, write_dicom
from wetread.runtime.images.dicom.display import Display, read_display, read_patient

UIDS = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "SOPInstanceUID": "1.2.3.4"}


def write(**extra: object) -> bytes:
    return write_dicom(draw_xray(8), bits=8, extra=UIDS | extra)


@pytest.mark.parametrize(
    ("attributes", "aspect"),
    [
        ({}, 1.0),
        ({"PixelAspectRatio": [2, 1]}, 2.0),
        ({"PixelAspectRatio": [1, 4]}, 0.25),
        ({"ImagerPixelSpacing": ["0.3", "0.2"]}, 1.5),
        ({"NominalScannedPixelSpacing": ["0.1", "0.2"], "PixelAspectRatio": [3, 1]}, 0.5),
        ({"PixelSpacing": ["0.2", "0.2"], "ImagerPixelSpacing": ["0.3", "0.2"]}, 1.0),
        ({"PixelAspectRatio": [0, 1]}, 1.0),
        ({"PixelAspectRatio": [-1, 1]}, 1.0),
        ({"PixelAspectRatio": [1, 1000]}, 1.0),
        ({"PixelSpacing": None, "ImagerPixelSpacing": ["0.3", "0.2"]}, 1.5),
    ],
)
def test_the_aspect_of_a_pixel(attributes, aspect):
    found = read_display(write(**attributes))
    assert found.aspect == pytest.approx(aspect)
    assert found.uid == "1.2.3.4"


@pytest.mark.parametrize(
    ("orientation", "edges"),
    [
        (["L", "F"], ("R", "L", "H", "F")),
        (["R", "F"], ("L", "R", "H", "F")),
        (["P", "FL"], ("A", "P", "HR", "FL")),
        (["L"], ("R", "L", "", "")),
        (["X", "F"], ("", "", "H", "F")),
        ([], ("", "", "", "")),
    ],
)
def test_the_directions_of_the_edges(orientation, edges):
    """Rows lead to the first, columns to the second; the other edges lead to the opposite."""
    assert read_display(write(PatientOrientation=orientation)).edges == edges


def test_what_is_no_dicom_or_damaged_is_shown_as_it_is():
    for data in (b"", b"text" * 100, write()[:300]):
        assert read_display(data) == Display()


def test_a_patient_is_read_in_the_objects_own_characters():
    assert read_patient(write(PatientName="", PatientID="")) == ""
    named = write(PatientName="Doe^John", PatientID="P42", PatientBirthDate="19700101")
    assert read_patient(named) == "Doe^John, P42, 19700101"
    other = write(SpecificCharacterSet="ISO_IR 192", PatientName="王^小東", PatientID="")
    assert read_patient(other) == "王^小東"
    assert read_patient(b"text" * 100) == ""
