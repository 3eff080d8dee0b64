"""What encapsulated frames are compressed with: one decoder for each transfer syntax, never a fallback.

A decoder that depends on what else is installed gives other pixels on other machines. JPEG of 8 bits goes
through simplejpeg, as JPEG files do; the rest through imagecodecs.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wetread.errors import ImageError, Status
from wetread.runtime.images.dicom.file_header import damaged, malformed
from wetread.runtime.images.dicom.values import importing_dicom
from wetread.runtime.images.limits import check_scans

if TYPE_CHECKING:
    from wetread.runtime.images.dicom.pixel_format import PixelFormat

Values = NDArray[np.integer[Any]]

_JPEG = "1.2.840.10008.1.2.4."
# A marker that starts a frame: SOF0 to SOF15 without DHT, JPG and DAC, and JPEG-LS' SOF55.
_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_LOSSLESS = 0xC3
RLE = "1.2.840.10008.1.2.5"
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_PACKBITS_RUN = 128
# openjpeg sets some 10 kB aside for each tile of JPEG 2000, whatever is in it.
_MAX_TILES = 1 << 13
_FILLER = b"\x55" * 64


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame: (H, W) or (H, W, 3) integers, their precision in bits, and what the colors are now."""

    values: Values
    precision: int
    photometric: str


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a compressed frame says of itself."""

    height: int
    width: int
    components: int
    precision: int
    marker: int = 0
    component_ids: bytes = b""
    is_jfif: bool = False


def decode_frame(data: bytes, syntax: str, form: PixelFormat) -> Frame:
    """Decode one frame's codestream.

    Raises ImageError: 'truncated' where it is cut, damaged or not of the size that the object states, and
    'unsupported' for another transfer syntax.
    """
    decoder = _DECODERS.get(syntax)
    if decoder is None:
        raise ImageError(
            Status.UNSUPPORTED, f"Its transfer syntax, {_name(syntax)}, is not one of still images."
        )
    try:
        return decoder(data, form)
    except (ImageError, MemoryError):
        raise
    except (struct.error, IndexError) as error:
        raise damaged("a frame's header ends early") from error
    except Exception as error:
        raise damaged(f"a frame does not decode ({type(error).__name__})") from error


def _name(syntax: str) -> str:
    return syntax if re.fullmatch(r"[0-9.]{1,64}", syntax) else "none that can be read"


def _codec(name: str) -> Callable[..., Values]:
    """A function of imagecodecs. Raises ImageError 'unsupported' without it."""
    with importing_dicom("imagecodecs"):
        import imagecodecs
    function: Callable[..., Values] = getattr(imagecodecs, name)
    return function


def _decode_jpeg(data: bytes, form: PixelFormat) -> Frame:
    """Baseline, extended and lossless JPEG."""
    data = _drop_fill(_up_to_end(data))
    found = _read_jpeg(data)
    _check_size(found, form)
    # A marker of a scan, which coded data cannot hold.
    check_scans(data.count(_SCAN) * found.height * found.width)
    if found.precision != 8:
        return Frame(_decode_deep_jpeg(data, found), found.precision, form.photometric)
    if found.components == 1:
        return Frame(simplejpeg.decode_jpeg(data, "GRAY")[..., 0], 8, form.photometric)
    is_rgb = found.component_ids in (b"RGB", b"rgb") or (form.photometric == "RGB" and not found.is_jfif)
    if found.marker == _LOSSLESS and not is_rgb:  # libjpeg converts no colors of lossless JPEG
        values = simplejpeg.decode_jpeg(_state_colors(data, is_rgb=True), "RGB")
        return Frame(values, 8, form.photometric)
    return Frame(simplejpeg.decode_jpeg(_state_colors(data, is_rgb=is_rgb), "RGB"), 8, "RGB")


def _decode_deep_jpeg(data: bytes, found: Codestream) -> Values:
    if found.components != 1:
        raise ImageError(
            Status.UNSUPPORTED, f"A color JPEG must have 8 bits a sample; this one has {found.precision}."
        )
    decode = _codec("jpeg8_decode")
    values = decode(data)
    # This decoder makes up what is missing. A whole scan decodes alike whatever stands behind it; a cut
    # one takes that for pixels, except between restart markers: so these are counted.
    tail_matters = not np.array_equal(decode(data[:-2] + _FILLER + _END), values)
    if tail_matters or len(re.findall(rb"\xff[\xd0-\xd7]", data)) < _count_restarts(data, found):
        raise damaged("a frame's data end early")
    return values


def _count_restarts(data: bytes, found: Codestream) -> int:
    """The restart markers that a whole scan of one component holds."""
    interval = next(
        (int.from_bytes(body[:2], "big") for marker, body in _segments(data) if marker == 0xDD), 0
    )
    if not interval:
        return 0
    side = 1 if found.marker == _LOSSLESS else 8
    blocks = ceil(found.height / side) * ceil(found.width / side)
    return ceil(blocks / interval) - 1


def _decode_jpegls(data: bytes, form: PixelFormat) -> Frame:
    data = _up_to_end(data)  # without its end, CharLS searches for half a minute
    found = _read_jpeg(data)
    _check_size(found, form)
    return Frame(_codec("jpegls_decode")(data), found.precision, form.photometric)


def _decode_jpeg2000(data: bytes, form: PixelFormat) -> Frame:
    data = _up_to_end(data)
    found = _read_jpeg2000(data)
    _check_size(found, form)
    # The codec itself undoes the color transforms that belong to JPEG 2000.
    photometric = "RGB" if form.photometric in ("YBR_RCT", "YBR_ICT") else form.photometric
    return Frame(_codec("jpeg2k_decode")(data), found.precision, photometric)


def _decode_rle(data: bytes, form: PixelFormat) -> Frame:
    """RLE Lossless (PS3.5, annex G): one PackBits segment for each byte of a sample, the high byte first."""
    decode = _codec("packbits_decode")
    count, *starts = struct.unpack_from("<16I", data)
    width, size = form.allocated // 8, form.rows * form.columns
    if count != form.samples * width:
        raise malformed(f"{count} RLE segments where {form.samples * width} are needed")
    planes = np.empty((count, size), np.uint8)
    for plane, start, end in zip(planes, starts, [*starts[1:count], len(data)], strict=False):
        # Padding may unpack to something as well, but no segment to more than another plane.
        found = np.frombuffer(decode(data[start:end], out=2 * size + _PACKBITS_RUN), np.uint8)
        if len(found) < size:
            raise damaged("an RLE segment ends early")
        if found[size:].any():  # zeros are padding
            raise damaged("an RLE segment holds more than its pixels")
        plane[:] = found[:size]
    values = planes.reshape(form.samples, width, form.rows, form.columns).transpose(2, 3, 0, 1)
    whole = np.ascontiguousarray(values).view(f">u{width}")[..., 0]
    return Frame(whole if form.samples > 1 else whole[..., 0], form.allocated, form.photometric)


def _up_to_end(data: bytes) -> bytes:
    """A codestream without what pads it. Raises ImageError where it has no end marker."""
    end = data.rfind(_END)
    if end < 0:
        raise damaged("a frame's data end early")
    return data[: end + 2]


def _drop_fill(data: bytes) -> bytes:
    """A JPEG without the fill bytes 0xFF before its end marker, where dcmtk pads to an even length.

    They are allowed (T.81, B.1.1.2), and no data: in a scan, a 0xFF is followed by a 0.
    """
    return data[:-2].rstrip(b"\xff") + _END


def _check_size(found: Codestream, form: PixelFormat) -> None:
    """Before anything is decoded: a frame that lies about its size must not cost memory."""
    stated = (form.rows, form.columns, form.samples)
    if (found.height, found.width, found.components) != stated:
        raise malformed(
            f"a frame of {found.width} x {found.height} x {found.components} in an object of "
            f"{form.columns} x {form.rows} x {form.samples}"
        )
    if not 1 <= found.precision <= 16:
        raise ImageError(Status.UNSUPPORTED, f"Its samples have {found.precision} bits; 1 to 16 are read.")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The marker segments of a JPEG before its first scan: marker and body."""
    at = 2
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xDA:
            return
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + size]
        at += 2 + size
    raise damaged("a frame ends before its first scan")


def _read_jpeg(data: bytes) -> Codestream:
    """Read a JPEG's or JPEG-LS's frame header."""
    if data[:2] != b"\xff\xd8":
        raise damaged("a frame does not start as JPEG does")
    segments = list(_segments(data))
    is_jfif = any(marker == 0xE0 and body.startswith(b"JFIF") for marker, body in segments)
    for marker, body in segments:
        if marker in _STARTS_OF_FRAME:
            precision, height, width, components = struct.unpack_from(">BHHB", body)
            return Codestream(height, width, components, precision, marker, body[6::3][:components], is_jfif)
    raise damaged("a frame has no header")


def _read_jpeg2000(data: bytes) -> Codestream:
    """Read the SIZ segment of a JPEG 2000 codestream, in its own file format or bare."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0:
        raise damaged("a frame does not start as JPEG 2000 does")
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    tile_width, tile_height = struct.unpack_from(">2I", data, at + 24)
    if right * bottom > _MAX_TILES * tile_width * tile_height:
        raise ImageError(
            Status.UNSUPPORTED,
            f"Its JPEG 2000 stream has more than {_MAX_TILES:,} tiles, which is the limit.",
        )
    components, depth = struct.unpack_from(">HB", data, at + 40)
    return Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1)


def _state_colors(data: bytes, *, is_rgb: bool) -> bytes:
    """Replace what a JPEG says of its colors: DICOM says it elsewhere, and libjpeg would guess."""
    kept = [
        b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body
        for marker, body in _segments(data)
        if not (marker == 0xE0 and body.startswith(b"JFIF"))
        and not (marker == 0xEE and body.startswith(b"Adobe"))
    ]
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([0 if is_rgb else 1])
    return b"\xff\xd8" + adobe + b"".join(kept) + data[_start_of_scan(data) :]


def _start_of_scan(data: bytes) -> int:
    """Where the first scan's marker stands."""
    at = 2
    while data[at + 1] != 0xDA:
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


_DECODERS: dict[str, Callable[[bytes, PixelFormat], Frame]] = {
    **dict.fromkeys((_JPEG + "50", _JPEG + "51", _JPEG + "57", _JPEG + "70"), _decode_jpeg),
    **dict.fromkeys((_JPEG + "80", _JPEG + "81"), _decode_jpegls),
    **dict.fromkeys(
        (_JPEG + "90", _JPEG + "91", _JPEG + "201", _JPEG + "202", _JPEG + "203"), _decode_jpeg2000
    ),
    RLE: _decode_rle,
}
# UIDs of the compressed transfer syntaxes that `decode_frame` decodes.
COMPRESSED = frozenset(_DECODERS)
