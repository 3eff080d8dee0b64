"""Image formats: detect the kind of a file, read its header, check that it is complete, decode it.

The header is read before anything is decoded, so that a cut file, or one with a wrong header, is found from
its structure, and a file that is too large costs nothing. Each reader raises ImageError with a status.
`docs/reference/pixels.md` states the rules.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from wetread.errors import ImageError, Status
from wetread.runtime.images.dicom import has_preamble, looks_like_dicom
from wetread.runtime.images.formats.bitmap import read_bmp, read_pnm
from wetread.runtime.images.formats.header import Header, Samples, Stored, truncated, unsupported
from wetread.runtime.images.formats.jpeg import JpegHeader, read_jpeg
from wetread.runtime.images.formats.png import SIGNATURE, PngHeader, read_png
from wetread.runtime.images.formats.tiff import read_tiff
from wetread.runtime.images.formats.webp import read_webp
from wetread.runtime.images.limits import MAX_MEMORY

if TYPE_CHECKING:
    from wetread.runtime.images.dicom.values import DicomObject

__all__ = [
    "Header",
    "JpegHeader",
    "PngHeader",
    "Samples",
    "Stored",
    "read_header",
    "truncated",
    "unsupported",
]

_Readers = tuple[tuple[bytes, Callable[[bytes], Header]], ...]

_READERS: _Readers = (
    (b"\xff\xd8", read_jpeg),
    (SIGNATURE, read_png),
    (b"BM", read_bmp),
    (b"II*\0", read_tiff),
    (b"MM\0*", read_tiff),
    (b"P5", read_pnm),
    (b"P6", read_pnm),
)

_UNSUPPORTED = (
    (0, b"GIF8", "a GIF, which may be animated: save the picture that counts as PNG"),
    (0, b"II+\0", "a BigTIFF: save it as TIFF"),
    (0, b"MM\0+", "a BigTIFF: save it as TIFF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000: save it as PNG"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000: save it as PNG"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL: save it as PNG"),
    (0, b"\xff\x0a", "JPEG XL: save it as PNG"),
    (0, b"8BPS", "a Photoshop document: save it as PNG"),
    (4, b"ftyp", "HEIC, AVIF or a video: save the picture that counts as PNG"),
)


def read_header(data: bytes | DicomObject, *, max_memory: int = MAX_MEMORY) -> Header:
    """Read the header of an image, from its bytes or from a parsed DICOM object.

    `max_memory`: the limit, in bytes, for inflating a deflated DICOM object; a WebP whose tables may exceed
    it is read more closely.

    Raises ImageError: 'empty', 'not_an_image', 'truncated' (cut short), 'malformed' (damaged), 'unsupported',
    or 'too_large' for sides that no decoder accepts.
    """
    if not isinstance(data, bytes):
        return _read_dicom(data, max_memory)
    if not data:
        raise ImageError(Status.EMPTY, "The file is empty: it has 0 bytes.")
    if has_preamble(data):
        return _read_dicom(data, max_memory)
    readers: _Readers = (*_READERS, (b"RIFF", partial(read_webp, max_memory=max_memory)))
    for magic, reader in readers:
        if data.startswith(magic):
            try:
                return reader(data)
            except (struct.error, IndexError) as error:
                raise truncated("its header ends early") from error
    for start, magic, name in _UNSUPPORTED:
        if data.startswith(magic, start):
            raise unsupported(name)
    if looks_like_dicom(data):
        return _read_dicom(data, max_memory)
    if len(data) > 1 and any(magic.startswith(data) for magic, _ in readers):
        raise truncated("its header ends early")
    raise ImageError(Status.NOT_AN_IMAGE, "The file is not a JPEG, PNG, TIFF, WebP, BMP, PNM or DICOM image.")


def _read_dicom(data: bytes | DicomObject, max_memory: int) -> Header:
    """Read a DICOM file's header; the modules for it are imported with the first one."""
    from wetread.runtime.images.formats.dicom import read_dicom

    return read_dicom(data, max_memory=max_memory)
