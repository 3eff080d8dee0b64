"""DICOM as one of the formats, read by `wetread.runtime.images.dicom` with the extra `dicom`."""

from __future__ import annotations

from dataclasses import dataclass, field

from wetread.runtime.images.dicom import Picture, open_picture
from wetread.runtime.images.dicom.values import DicomObject
from wetread.runtime.images.formats.header import Header, Samples
from wetread.runtime.images.limits import Footprint


@dataclass(frozen=True)
class DicomHeader(Header):
    """A DICOM file's header."""

    picture: Picture = field(kw_only=True)

    def count_memory(self, size: int) -> Footprint:
        """Count what decoding needs, with a copy of the object, inflated if it is deflated."""
        return self.picture.count_memory()

    def decode(self, data: bytes) -> Samples:
        """Decode the file's picture: 8 bits, gray or RGB. Raises ImageError."""
        return Samples(self.picture.decode())


def read_dicom(data: bytes | DicomObject, *, max_memory: int) -> DicomHeader:
    """Read a DICOM file's or object's header, inflated within `max_memory` bytes. Raises ImageError."""
    picture = open_picture(data, max_memory=max_memory)
    return DicomHeader("dicom", picture.form.rows, picture.form.columns, picture=picture)
