"""DICOM files to pixels, by the rule that `docs/guides/dicom.md` states. Needs the extra `dicom`.

stream.py   finds DICOM by content, reads its transfer syntax, inflates
values.py   an object's attributes as exact numbers, without the warnings that would quote them
frames.py   the pixel data of one frame as stored values
codecs.py   what encapsulated frames are compressed with
gray.py     stored values to 0..255, in whole numbers
color.py    palette, RGB and YBR to RGB
decoding.py all of it, in order
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wetread.runtime.images.dicom.file_header import has_preamble, looks_like_dicom

if TYPE_CHECKING:
    from wetread.runtime.images.dicom.decoding import Picture, open_picture

__all__ = ["Picture", "has_preamble", "looks_like_dicom", "open_picture"]


def __getattr__(name: str) -> Any:
    """Load what decodes when it is first used: a folder of JPEGs never needs it."""
    if name not in __all__:
        raise AttributeError(f"module 'wetread.runtime.images.dicom' has no attribute {name!r}")
    return getattr(import_module("wetread.runtime.images.dicom.decoding"), name)
