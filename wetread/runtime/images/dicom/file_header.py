"""The outside of a DICOM file: is it one, how is it written, and where does its object begin.

Found by content, with or without the 128-byte preamble and the file meta information. A deflated object
is inflated within a bound.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from wetread.errors import ImageError, Status
from wetread.runtime.images.limits import MAX_MEMORY, check_memory

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
UNDEFINED = 0xFFFFFFFF
_MAGIC_AT = 128
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_META_SYNTAX, _META_CLASS = 0x00020010, 0x00020002
# Without a preamble, this many elements in a row must make sense.
_ELEMENTS_TO_TRUST = 3
_FIRST_GROUPS = frozenset({b"\2\0", b"\0\2", b"\10\0", b"\0\10"})  # 2 and 8, in both byte orders


@dataclass(frozen=True, slots=True)
class Stream:
    """A DICOM object: its transfer syntax ('' where nothing says so), its SOP class if the meta names it,
    whether values lack their types (implicit), the byte order, and its bytes, inflated.
    """

    syntax: str
    sop_class: str
    implicit: bool
    little: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Element:
    """A data element's header: tag, type (b'' where implicit), and where its value stands and ends."""

    tag: int
    kind: bytes
    start: int
    length: int

    @property
    def end(self) -> int:
        """Where the value ends, if its length is defined."""
        return self.start + self.length


def damaged(reason: str) -> ImageError:
    """The error of a DICOM file that is cut short or damaged. `reason` quotes no value of the file's."""
    return ImageError(Status.TRUNCATED, f"The DICOM file is cut or damaged: {reason}.")


def malformed(reason: str) -> ImageError:
    """The error of a DICOM file whose attributes cannot be right. `reason` quotes no value of the file's."""
    return ImageError(
        Status.MALFORMED, f"This DICOM file is whole, but its attributes cannot be right: {reason}."
    )


def has_preamble(data: bytes) -> bool:
    """Tell whether a file starts as DICOM's own files do. (The preamble may look like a TIFF's.)"""
    return data.startswith(b"DICM", _MAGIC_AT)


def looks_like_dicom(data: bytes) -> bool:
    """Tell by content whether a file is DICOM; with the preamble or without it."""
    return has_preamble(data) or _guess_encoding(data) is not None


def read_stream(data: bytes, *, max_memory: int = MAX_MEMORY) -> Stream:
    """Take a DICOM file apart, inflated within `max_memory` bytes.

    Raises ImageError 'truncated', 'too_large' (inflated) or 'unsupported'.
    """
    start = _MAGIC_AT + 4 if has_preamble(data) else 0
    syntax, sop_class, start = _read_meta(data, start)
    body = data[start:]
    if syntax == DEFLATED:
        body = _inflate(body, max_memory)
    if syntax:
        implicit, little = syntax == IMPLICIT_LITTLE, syntax != EXPLICIT_BIG
    else:
        guessed = _guess_encoding(body)
        if guessed is None:
            raise damaged("nothing says how it is written")
        implicit, little = guessed
        syntax = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG
    return Stream(syntax, sop_class, implicit, little, body)


def _read_meta(data: bytes, start: int) -> tuple[str, str, int]:
    """Transfer syntax and SOP class of the file meta information, and where the object begins after it."""
    found: dict[int, str] = {}
    while data[start : start + 2] == b"\2\0":
        element = read_element(data, start, implicit=False, little=True)
        if element.length == UNDEFINED or element.end > len(data):
            raise damaged("its file meta information ends early")
        found[element.tag] = data[element.start : element.end].decode("ascii", "replace").strip("\0 ")
        start = element.end
    return found.get(_META_SYNTAX, ""), found.get(_META_CLASS, ""), start


def read_element(data: bytes, at: int, *, implicit: bool, little: bool) -> Element:
    """Read the header of the element at `at`. Raises ImageError 'truncated' where it does not fit."""
    order = "<" if little else ">"
    try:
        group, number = struct.unpack_from(order + "HH", data, at)
        tag = group << 16 | number
        if implicit or group == 0xFFFE:
            return Element(tag, b"", at + 8, *struct.unpack_from(order + "I", data, at + 4))
        kind = data[at + 4 : at + 6]
        if kind in _LONG_VRS:
            return Element(tag, kind, at + 12, *struct.unpack_from(order + "I", data, at + 8))
        return Element(tag, kind, at + 8, *struct.unpack_from(order + "H", data, at + 6))
    except struct.error as error:
        raise damaged("it ends inside an element") from error


def _guess_encoding(data: bytes) -> tuple[bool, bool] | None:
    """(implicit, little) of an object without meta information; None where the bytes are no object."""
    if data[:2] not in _FIRST_GROUPS:
        return None  # most files are pictures of another kind
    for implicit, little in ((False, True), (True, True), (False, False)):
        if _makes_sense(_first_elements(data, implicit=implicit, little=little), len(data)):
            return implicit, little
    return None


def _first_elements(data: bytes, *, implicit: bool, little: bool) -> Iterator[Element]:
    at = 0
    try:
        for _ in range(_ELEMENTS_TO_TRUST):
            element = read_element(data, at, implicit=implicit, little=little)
            yield element
            at = element.end
    except ImageError:
        return


def _makes_sense(elements: Iterator[Element], size: int) -> bool:
    """Tell whether elements rise from group 2 or 8, with known types and lengths that fit."""
    last, count = 0, 0
    for element in elements:
        known = element.kind in _LONG_VRS or element.kind in _SHORT_VRS or not element.kind
        first = count > 0 or element.tag >> 16 in (2, 8)
        if not (first and known and element.tag > last and element.end <= size and element.length % 2 == 0):
            return False
        last, count = element.tag, count + 1
    return count == _ELEMENTS_TO_TRUST


def _inflate(body: bytes, max_memory: int) -> bytes:
    """Inflate an object. Its pieces are joined when they are all there: two bytes are held for each."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(body, max(max_memory // 2, 1))
    except zlib.error as error:
        raise damaged("its deflated data do not inflate") from error
    if inflater.unconsumed_tail:
        check_memory(max_memory + 1, max_memory, about="a deflated DICOM object")
    if not inflater.eof:
        raise damaged("its deflated data end early")
    return inflated
