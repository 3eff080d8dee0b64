"""A DICOM object's attributes, read strictly from their bytes.

pydicom finds the elements; values are read here, so that none is converted that is not asked for, and none
is ever quoted in a warning or an error: names and numbers of patients stay in the file.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wetread.errors import BrokenPackageError, ImageError, MissingExtraError, Status
from wetread.packages import importing
from wetread.runtime.images.dicom.file_header import (
    UNDEFINED,
    Stream,
    damaged,
    malformed,
    read_element,
    read_stream,
)
from wetread.runtime.images.limits import MAX_MEMORY

PIXEL_DATA = 0x7FE00010
_FIRST_PIXEL_TAG = 0x7FE00008  # Float and Double Float Pixel Data come before Pixel Data
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?")
_MAX_DECIMAL_CHARACTERS = 32
# An empty item of 8 bytes takes 700 bytes in pydicom, an empty element 330: 10 MB could take gigabytes.
_MAX_READS = 300_000
_MAX_SEQUENCE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where an object's pixel data stand in its body: the tag, the type, start, and length or UNDEFINED."""

    tag: int
    kind: str
    start: int
    length: int


class Attributes:
    """The attributes of a DICOM object or of an item of a sequence, by tag."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def raw(self, tag: int) -> bytes:
        """The bytes of a value as they stand in the file; b'' where it is absent, empty or a sequence."""
        element = self._dataset.get_item(tag) if tag in self._dataset else None
        value = getattr(element, "value", None)
        return value if isinstance(value, bytes) else b""

    def texts(self, tag: int) -> list[str]:
        """The values of a text attribute; [] where it is absent or empty."""
        text = self.raw(tag).decode("ascii", "replace").strip("\0 ")
        return [part.strip() for part in text.split("\\")] if text else []

    def text(self, tag: int) -> str:
        """The first value of a text attribute, or ''."""
        return next(iter(self.texts(tag)), "")

    def decimal(self, tag: int) -> Fraction | None:
        """The first value of a decimal string (DS) or integer string (IS), exactly; None where absent."""
        text = self.text(tag)
        if not text:
            return None
        if len(text) > _MAX_DECIMAL_CHARACTERS or not _DECIMAL.fullmatch(text):
            raise malformed(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) holds no number")
        return Fraction(text)

    def whole(self, tag: int) -> int | None:
        """The first value of an integer string (IS); None where absent."""
        value = self.decimal(tag)
        return None if value is None else int(value)

    def shorts(self, tag: int, *, signed: bool = False) -> list[int]:
        """The values of an unsigned or signed short attribute (US, SS); [] where absent."""
        value = self.raw(tag)
        letter = "h" if signed else "H"
        count = len(value) // 2
        return list(struct.unpack_from(f"{self._order(tag)}{count}{letter}", value))

    def short(self, tag: int, *, signed: bool = False) -> int | None:
        """The value of an unsigned or signed short attribute that has one; None where absent."""
        if len(self.raw(tag)) not in (0, 2):
            raise malformed(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) holds {len(self.raw(tag))} bytes, not 2")
        return next(iter(self.shorts(tag, signed=signed)), None)

    def is_signed(self, tag: int) -> bool | None:
        """Whether the file itself types a short as signed (SS) or unsigned (US); None where it does not."""
        kind = getattr(self._dataset.get_item(tag), "VR", None) if tag in self._dataset else None
        return {"SS": True, "US": False}.get(str(kind))

    def is_little(self, tag: int) -> bool:
        """The byte order of an attribute's value."""
        return self._order(tag) == "<"

    def items(self, tag: int) -> list[Attributes]:
        """The items of a sequence; [] where absent."""
        if tag not in self._dataset:
            return []
        raw = self._dataset.get_item(tag).value
        if isinstance(raw, bytes):  # not parsed yet
            items = raw.count(b"\xfe\xff\x00\xe0") + raw.count(b"\xff\xfe\xe0\x00")
            if len(raw) > _MAX_SEQUENCE_BYTES or items > _MAX_READS:
                raise _too_many()
        value = self._dataset[tag].value
        return [Attributes(item) for item in value] if type(value).__name__ == "Sequence" else []

    def _order(self, tag: int) -> str:
        little = (
            getattr(self._dataset.get_item(tag), "is_little_endian", True) if tag in self._dataset else True
        )
        return "<" if little else ">"


class _CountedBytes(io.BytesIO):
    """An object's bytes, read at most so often: each read may make a Python object many times its size."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as BytesIO does. Raises ImageError 'unsupported' past the bound."""
        self.reads += 1
        if self.reads > _MAX_READS:
            raise _too_many()
        return super().read(size)


def _too_many() -> ImageError:
    return ImageError(
        Status.UNSUPPORTED,
        f"The DICOM object has more than {_MAX_READS:,} attributes and items, which is the limit.",
    )


@dataclass(frozen=True, slots=True)
class DicomObject:
    """A file's object, parsed: its attributes before the pixel data, and where those stand, if it has any."""

    stream: Stream
    attributes: Attributes
    pixels: PixelElement | None

    def check_pixels(self) -> None:
        """See that the pixel data and what follows them are there. Raises ImageError 'truncated'."""
        pixels = self.pixels
        if pixels is not None and pixels.length != UNDEFINED:
            check_rest(self.stream, pixels.start + pixels.length, implicit=not pixels.kind)


def parse_file(data: bytes, *, max_memory: int = MAX_MEMORY) -> DicomObject:
    """Parse a DICOM file's object up to its pixels, once for all who ask. `max_memory`: as in `read_stream`.

    Raises ImageError as `read_stream` does: 'truncated' where the attributes do not hold together,
    'unsupported' without pydicom. What is cut in the pixels or behind them is found by `check_pixels`.
    """
    stream = read_stream(data, max_memory=max_memory)
    return DicomObject(stream, *_parse_attributes(stream))


def _parse_attributes(stream: Stream) -> tuple[Attributes, PixelElement | None]:
    read_dataset = import_pydicom("pydicom.filereader").read_dataset
    body = _CountedBytes(stream.body)
    found: list[PixelElement] = []

    def stop(tag: int, kind: str | None, length: int) -> bool:
        if tag < _FIRST_PIXEL_TAG:
            return False
        if tag <= PIXEL_DATA:
            found.append(PixelElement(int(tag), str(kind or ""), body.tell(), length))
        return True

    try:
        dataset = read_dataset(body, stream.implicit, stream.little, stop_when=stop)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom meets damaged bytes with errors of every kind
        if body.reads > _MAX_READS:
            raise _too_many() from None
        raise damaged(f"it cannot be parsed ({type(error).__name__})") from None
    if not found:
        _check_values(dataset)
    return Attributes(dataset), found[0] if found else None


def _check_values(dataset: Any) -> None:
    """See that an object without pixels has its values whole: pydicom takes what it gets of the last one."""
    for element in dataset.values():
        value = getattr(element, "value", None)
        if isinstance(value, bytes) and len(value) < getattr(element, "length", 0) < UNDEFINED:
            raise damaged("its last element ends early")


def check_rest(stream: Stream, at: int, *, implicit: bool) -> None:
    """See that the pixel data, which end at `at`, and what follows them are there to the last byte."""
    size = len(stream.body)
    while at < size:
        if size - at < 8 and not any(stream.body[at:]):
            return  # padding
        element = read_element(stream.body, at, implicit=implicit, little=stream.little)
        if element.length == UNDEFINED:
            return
        at = element.end
    if at > size:
        raise damaged("its last element ends early")


def import_pydicom(name: str) -> Any:
    """Import a module of pydicom, whose own warnings are hushed: they can quote what the file holds.

    Raises ImageError 'unsupported' without it.
    """
    from importlib import import_module

    with importing_dicom(name.partition(".")[0]):
        module = import_module(name)
    hushed = ("ignore", None, Warning, re.compile(r"pydicom\."), 0)
    if hushed not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"pydicom\.")
    return module


@contextmanager
def importing_dicom(package: str) -> Iterator[None]:
    """Make of a package that reads DICOM, and is not there or does not load, the error of one file.

    Raises ImageError 'unsupported'.
    """
    try:
        with importing(package, extra="dicom"):
            yield
    except (MissingExtraError, BrokenPackageError) as error:
        raise ImageError(Status.UNSUPPORTED, f"DICOM cannot be read here. {error}") from error
