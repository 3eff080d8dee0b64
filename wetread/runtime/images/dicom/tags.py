"""A DICOM object's attributes as text for a table: those by whose form no patient can be named."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from wetread.errors import ImageError, UsageError
from wetread.packages import importing
from wetread.runtime.images.dicom.file_header import looks_like_dicom
from wetread.runtime.images.dicom.values import Attributes, DicomObject, parse_file
from wetread.runtime.images.limits import MAX_MEMORY

# What a value of each type looks like (PS3.5, 6.2). One that does not is left out: it may be anything.
_TEXTS: Mapping[str, re.Pattern[str]] = {
    "UI": re.compile(r"[0-9.]{1,64}"),
    "CS": re.compile(r"[A-Za-z0-9_ ]{1,16}"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "DA": re.compile(r"\d{8}|\d{4}\.\d\d\.\d\d"),
    "TM": re.compile(r"\d{2}(:?\d\d(:?\d\d(\.\d{1,6})?)?)?"),
    "DT": re.compile(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?"),
    "IS": re.compile(r"[+-]?\d{1,11}"),
    "DS": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?"),
}
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
# Texts, but of the maker's and not of whoever sits at the machine.
_MAKERS = {"Manufacturer", "ManufacturerModelName"}
_MAKERS_TEXT = re.compile(r"[ -~]{1,64}")
_PATIENT, _META, _PIXELS = 0x0010, 0x0002, 0x7FE0


@dataclass(frozen=True, slots=True)
class Tag:
    """An attribute that may stand in a table: its keyword, number and type (VR)."""

    keyword: str
    number: int
    kind: str


def choose_tags(keywords: Iterable[str]) -> tuple[Tag, ...]:
    """Find attributes by their keywords in DICOM's dictionary.

    Raises UsageError for one that is unknown, named twice, or may hold a patient's name or number by its
    form; MissingExtraError without pydicom.
    """
    chosen: dict[str, Tag] = {}
    for keyword in keywords:
        if keyword in chosen:
            raise UsageError(f"--dicom-tags names {keyword!r} twice. Name each tag once.")
        chosen[keyword] = _find_tag(keyword)
    return tuple(chosen.values())


def _find_tag(keyword: str) -> Tag:
    with importing("pydicom", extra="dicom"):
        from pydicom.datadict import dictionary_VR, tag_for_keyword
    number = tag_for_keyword(keyword)
    if not keyword or number is None:
        raise UsageError(
            f"--dicom-tags: {keyword!r} is not in DICOM's dictionary. Use keywords such as "
            "SOPInstanceUID,StudyDate."
        )
    found = Tag(keyword, int(number), str(dictionary_VR(number)))
    if found.number >> 16 == _PATIENT or not (found.kind in {*_TEXTS, *_NUMBERS} or keyword in _MAKERS):
        raise UsageError(
            f"--dicom-tags cannot include {keyword!r} ({found.number >> 16:04X},"
            f"{found.number & 0xFFFF:04X}), {found.kind}: it can hold a patient's name or number. Allowed "
            "are identifiers of objects, dates, times, codes and numbers outside group 0010. Find the "
            "patient in the archive by SOPInstanceUID."
        )
    if found.number >> 16 == _META or found.number >> 16 >= _PIXELS:
        raise UsageError(
            f"--dicom-tags cannot include {keyword!r}: only attributes before the pixels are read."
        )
    return found


def parse_once(data: bytes, *, max_memory: int = MAX_MEMORY) -> bytes | DicomObject:
    """Parse a DICOM file for its attributes and its pixels; other files, and damaged ones, stay bytes.

    `max_memory`: bytes that inflating the object may take, as in `read_pixels`.
    """
    with suppress(ImageError):  # the row's status says so
        if looks_like_dicom(data):
            return parse_file(data, max_memory=max_memory)
    return data


def read_tags(data: bytes | DicomObject, tags: Iterable[Tag]) -> dict[str, str | None]:
    """Read attributes of a file that `parse_once` parsed, by keyword, as they stand in it.

    Several values keep their '\\'. None where the attribute is absent, empty or not of its type's form, and
    where the file is no DICOM, is damaged before its pixels, or takes more memory.
    """
    if not isinstance(data, DicomObject):
        return {tag.keyword: None for tag in tags}
    return {tag.keyword: _read_tag(data.attributes, tag) for tag in tags}


def _read_tag(attributes: Attributes, tag: Tag) -> str | None:
    if tag.kind in _NUMBERS:
        return _read_numbers(attributes, tag)
    form = _TEXTS.get(tag.kind, _MAKERS_TEXT)
    values = attributes.texts(tag.number)
    return "\\".join(values) if values and all(map(form.fullmatch, values)) else None


def _read_numbers(attributes: Attributes, tag: Tag) -> str | None:
    value, letter = attributes.raw(tag.number), _NUMBERS[tag.kind]
    order = "<" if attributes.is_little(tag.number) else ">"
    if not value or len(value) % struct.calcsize(order + letter):
        return None
    return "\\".join(str(number) for (number,) in struct.iter_unpack(order + letter, value))
