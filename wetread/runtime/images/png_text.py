"""Write a PNG with metadata that any reader of PNGs shows: chunks tEXt and iTXt (PNG, third edition, 11.3.3).

data = encode_png(picture, {"Disclaimer": "Not for diagnosis."})
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import cv2

from wetread.errors import OutputError
from wetread.runtime.images.pixels import Pixels

# Metadata stand behind the signature (8 bytes) and the header, IHDR (25), where a reader finds them first.
_AFTER_HEADER = 33


def encode_png(picture: Pixels, texts: Mapping[str, str] | None = None) -> bytes:
    """Write uint8 (H, W, 3) RGB as a PNG.

    `texts`: by keyword, 1 to 79 characters of ASCII. Raises OutputError for a picture that is too large.
    """
    written, encoded = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not written:
        raise OutputError(f"A picture of {picture.shape[:2]} pixels is too large for a PNG.")
    data = encoded.tobytes()
    chunks = b"".join(_make_chunk(name, text) for name, text in (texts or {}).items())
    return data[:_AFTER_HEADER] + chunks + data[_AFTER_HEADER:]


def _make_chunk(keyword: str, text: str) -> bytes:
    """ASCII as tEXt, and everything else as UTF-8 in iTXt."""
    text = text.replace("\0", "")
    if text.isascii():
        kind, content = b"tEXt", keyword.encode("ascii") + b"\0" + text.encode("ascii")
    else:
        body = text.encode("utf-8", "backslashreplace")
        kind, content = b"iTXt", keyword.encode("ascii") + b"\0\0\0\0\0" + body
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
