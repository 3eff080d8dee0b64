"""DICOM as one of the formats: `wetread.runtime.images.dicom` reads it, with the extra `dicom`."""

from __future__ import annotations

from dataclasses import dataclass, field

from wetread.runtime.images.dicom import Picture, open_picture
from wetread.runtime.images.formats.header import Header, Samples


@dataclass(frozen=True)
class DicomHeader(Header):
    """What a DICOM file says of itself."""

    picture: Picture = field(kw_only=True)

    def decode(self, data: bytes) -> Samples:
        """Decode the file's picture: 8 bits, gray or RGB. Raises ImageError."""
        return Samples(self.picture.decode())


def read_dicom(data: bytes) -> DicomHeader:
    """Read a DICOM file's header. Raises ImageError."""
    picture = open_picture(data)
    return DicomHeader("dicom", picture.form.rows, picture.form.columns, picture=picture)
