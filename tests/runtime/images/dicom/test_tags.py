from __future__ import annotations

import sys

import pytest

from tests.conftest import draw_image
from tests.runtime.images.dicom.drawing import NATIVE, draw_xray, strip_meta, write_dicom
from wetread.errors import MissingExtraError, UsageError
from wetread.runtime.images.dicom.tags import Tag, choose_tags, parse_once, read_tags

WANTED = (
    "SOPInstanceUID",
    "StudyDate",
    "ContentTime",
    "Modality",
    "ImageType",
    "InstanceNumber",
    "PixelSpacing",
    "BitsStored",
    "Manufacturer",
    "SeriesDate",
)
VALUES = {
    "ContentTime": "101112.5",
    "ImageType": ["DERIVED", "PRIMARY"],
    "InstanceNumber": "7",
    "PixelSpacing": ["0.14", "0.14"],
    "Manufacturer": "Maker of X-ray things",
}


@pytest.mark.parametrize("syntax", NATIVE)
def test_values_are_read_as_they_stand_in_the_file(syntax):
    file = write_dicom(draw_xray(12), bits=12, syntax=syntax, extra=VALUES)
    expected = {
        "SOPInstanceUID": "1.2.3.4.5",
        "StudyDate": "20260102",
        "ContentTime": "101112.5",
        "Modality": "DX",
        "ImageType": "DERIVED\\PRIMARY",
        "InstanceNumber": "7",
        "PixelSpacing": "0.14\\0.14",
        "BitsStored": "12",
        "Manufacturer": "Maker of X-ray things",
        "SeriesDate": None,
    }
    assert read_tags(parse_once(file), choose_tags(WANTED)) == expected
    if syntax != "deflated":
        assert read_tags(parse_once(strip_meta(file)), choose_tags(WANTED)) == expected


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "OtherPatientIDs",
        "AccessionNumber",
        "StudyID",
        "AdmissionID",
        "StudyDescription",
        "ImageComments",
        "ReferringPhysicianName",
        "OperatorsName",
        "ReferencedPatientSequence",
        "RequestAttributesSequence",
    ],
)
def test_what_may_name_a_patient_is_refused(keyword):
    with pytest.raises(UsageError, match="can hold a patient's name or number") as caught:
        choose_tags(["Modality", keyword])
    assert f"cannot include '{keyword}'" in str(caught.value)


def test_no_attribute_that_speaks_of_a_name_or_a_number_of_a_person_is_let_through():
    """Every keyword of the dictionary: what its name says, and its type."""
    from pydicom._dicom_dict import DicomDictionary

    passed = []
    for _, _, _, _, keyword in DicomDictionary.values():
        try:
            passed += choose_tags([keyword]) if keyword else []
        except UsageError:
            continue
    assert len(passed) > 1000
    words = ("PatientName", "PatientID", "PersonName", "PhysicianName", "OperatorsName", "Accession")
    speaking = [tag.keyword for tag in passed if any(word in tag.keyword for word in words)]
    assert speaking == []
    assert {tag.kind for tag in passed} & {"PN", "LT", "ST", "UT", "UC", "UR", "SH", "SQ", "UN"} == set()
    assert {tag.keyword for tag in passed if tag.kind == "LO"} == {"Manufacturer", "ManufacturerModelName"}
    assert [tag for tag in passed if tag.number >> 16 == 0x10] == []


@pytest.mark.parametrize("keyword", ["", "sopinstanceuid", "0008,0018", "NoSuchThing"])
def test_unknown_names_are_refused(keyword):
    with pytest.raises(UsageError, match="is not in DICOM's dictionary"):
        choose_tags([keyword])


def test_a_name_given_twice_and_one_that_is_not_read_are_refused():
    with pytest.raises(UsageError, match="once"):
        choose_tags(["Modality", "Modality"])
    with pytest.raises(UsageError, match="before the pixels"):
        choose_tags(["TransferSyntaxUID"])


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom.datadict", None)
    assert choose_tags([]) == ()
    with pytest.raises(MissingExtraError, match="dicom"):
        choose_tags(["Modality"])


@pytest.mark.parametrize(
    ("keyword", "number", "kind", "smuggled"),
    [
        ("SOPInstanceUID", 0x00080018, "UI", "Doe^Secret"),
        ("StudyDate", 0x00080020, "DA", "Secret42"),
        ("StudyTime", 0x00080030, "TM", "Secret"),
        ("Modality", 0x00080060, "CS", "Doe^Secret"),
        ("InstanceNumber", 0x00200013, "IS", "1\\Secret"),
        ("Manufacturer", 0x00080070, "LO", "Doe\nSecret"),
    ],
)
def test_a_value_that_is_not_of_its_types_form_is_left_out(keyword, number, kind, smuggled):
    assert read_tags(parse_once(write_raw(number, kind, smuggled)), [Tag(keyword, number, kind)]) == {
        keyword: None
    }


def write_raw(number: int, kind: str, value: str) -> bytes:
    """An object with one element, whose value its type forbids, between two that are as they should be."""
    import struct

    def element(tag: int, kind: str, data: bytes) -> bytes:
        data += b" " * (len(data) % 2)
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, kind.encode(), len(data)) + data

    body = element(0x00080005, "CS", b"ISO_IR 192") + element(number, kind, value.encode())
    return bytes(128) + b"DICM" + element(0x00020010, "UI", b"1.2.840.10008.1.2.1\0") + body


def test_a_raw_object_without_the_trick_is_read():
    """So that the test above can fail."""
    file = write_raw(0x00080060, "CS", "DX")
    assert read_tags(parse_once(file), choose_tags(["Modality"])) == {"Modality": "DX"}


@pytest.mark.parametrize("data", [b"", b"text", draw_image(1), draw_image(1, suffix=".png")])
def test_what_is_no_dicom_has_none(data):
    assert read_tags(parse_once(data), choose_tags(["Modality"])) == {"Modality": None}


def test_a_cut_file_has_its_values_whole_or_not_at_all():
    """Half a UID is a UID as well, of something else."""
    file = write_dicom(draw_xray(8, shape=(16, 16)), bits=8, extra=VALUES)
    tags = choose_tags(WANTED)
    whole = read_tags(parse_once(file), tags)
    found = [read_tags(parse_once(file[:end]), tags) for end in range(len(file))]
    assert all(row[name] in (None, whole[name]) for row in found for name in WANTED)
    assert found[-1] == whole  # the pixels are cut, and they alone
    assert found[len(file) // 3]["SOPInstanceUID"] is None


def test_a_deflated_object_is_inflated_within_the_limit_for_its_attributes_too():
    tags = choose_tags(["Modality"])
    file = write_dicom(draw_xray(8, shape=(900, 900)), bits=8, syntax="deflated")
    assert read_tags(parse_once(file), tags) == {"Modality": "DX"}
    assert read_tags(parse_once(file, max_memory=1 << 20), tags) == {"Modality": None}
