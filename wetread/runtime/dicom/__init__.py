"""DICOM files to pixels, by the rule that `docs/dicom.md` states. Needs the extra `dicom`.

stream.py   finds DICOM by content, reads its transfer syntax, inflates
values.py   an object's attributes as exact numbers, without the warnings that would quote them
frames.py   the pixel data of one frame as stored values
codecs.py   what encapsulated frames are compressed with
gray.py     stored values to 0..255, in whole numbers
color.py    palette, RGB and YBR to RGB
decoding.py all of it, in order
"""

from wetread.runtime.dicom.decoding import Picture, decode_dicom, open_picture
from wetread.runtime.dicom.stream import has_preamble, looks_like_dicom

__all__ = ["Picture", "decode_dicom", "has_preamble", "looks_like_dicom", "open_picture"]
