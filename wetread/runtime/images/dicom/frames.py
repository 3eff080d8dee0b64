"""The pixel data of one frame, as stored values: native, or encapsulated and compressed."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status
from wetread.runtime.images.dicom.codecs import COMPRESSED, RLE, Frame, Values, decode_frame
from wetread.runtime.images.dicom.file_header import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    UNDEFINED,
    Stream,
    damaged,
    malformed,
)
from wetread.runtime.images.dicom.pixel_format import PixelFormat
from wetread.runtime.images.dicom.row_strips import map_strips
from wetread.runtime.images.dicom.values import Attributes, PixelElement, check_rest

Stored = NDArray[np.int32]

NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# What a codestream begins with: JPEG and JPEG-LS, JPEG 2000 bare and in its own file format.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")


def list_syntaxes() -> tuple[str, ...]:
    """UIDs of the transfer syntaxes that are decoded, in order."""
    return tuple(sorted({*NATIVE, *COMPRESSED}))


def read_frame(
    stream: Stream, pixels: PixelElement, form: PixelFormat, *, index: int
) -> tuple[Stored, PixelFormat]:
    """Read frame `index` (from 0) as stored values.

    Returns int32 (H, W) or (H, W, 3), and the format with the photometric interpretation and the stored
    bits that they really have. Raises ImageError.
    """
    if stream.syntax in NATIVE:
        if pixels.length == UNDEFINED:
            raise malformed("native pixel data without a length")
        return _read_native(stream, pixels, form, index)
    table, fragments, end = _split_fragments(stream.body, pixels)
    check_rest(stream, end, implicit=False)
    frame = decode_frame(_join_frame(table, fragments, form, index), stream.syntax, form)
    if stream.syntax == RLE:
        return _from_bits(frame.values, form), form
    return _interpret(frame, form)


def _read_native(
    stream: Stream, pixels: PixelElement, form: PixelFormat, index: int
) -> tuple[Stored, PixelFormat]:
    data = stream.body[pixels.start : pixels.start + pixels.length]
    whole = form.rows * form.columns * form.samples * form.allocated // 8
    halved = form.photometric == "YBR_FULL_422" and len(data) < whole * form.frames
    size = whole // 3 * 2 if halved else whole
    if len(data) < size * form.frames:
        raise malformed(
            f"it has {len(data):,} bytes of pixels where {form.frames} frames need {size * form.frames:,}"
        )
    if len(data) >= size * (form.frames + 1) + size % 2:
        raise malformed(f"it has the pixels of more frames than the {form.frames} that it states")
    if not stream.little and form.allocated == 8 and pixels.kind == "OW":
        data = np.frombuffer(data[: len(data) & ~1], "<u2").byteswap().tobytes() + data[len(data) & ~1 :]
    order = "<" if stream.little else ">"
    values = np.frombuffer(data, f"{order}u{form.allocated // 8}", size * 8 // form.allocated, index * size)
    if halved:
        values = _spread_chroma(values)
    return _from_bits(_shape(values, form, planar=form.planar and not halved), form), form


def _spread_chroma(values: Values) -> Values:
    """Y1 Y2 B R of two neighbours to Y1 B R Y2 B R."""
    if len(values) % 4:
        raise malformed("YBR_FULL_422 with an odd number of columns")
    quads = values.reshape(-1, 4)
    return quads[:, [0, 2, 3, 1, 2, 3]].reshape(-1)


def _shape(values: Values, form: PixelFormat, *, planar: bool) -> Values:
    if form.samples == 1:
        return values.reshape(form.rows, form.columns)
    if planar:
        return values.reshape(form.samples, form.rows, form.columns).transpose(1, 2, 0)
    return values.reshape(form.rows, form.columns, form.samples)


def _from_bits(values: Values, form: PixelFormat) -> Stored:
    """Take the stored bits out of the allocated ones: what lies beside them (old overlays) is not pixels."""

    shift, mask = form.high + 1 - form.stored, (1 << form.stored) - 1

    def extract(strip: Values) -> NDArray[Any]:
        if form.signed:
            return _sign((strip.astype(np.int32) >> shift) & mask, form.stored)
        moved = strip >> shift if shift else strip
        return moved & mask if form.stored + shift < form.allocated else moved

    return map_strips(extract, values, np.int32)


def _sign(values: Stored, bits: int) -> Stored:
    """Two's complement of `bits` bits."""
    return values - ((values >> (bits - 1) & 1) << bits)


def _interpret(frame: Frame, form: PixelFormat) -> tuple[Stored, PixelFormat]:
    """What a codec gave, as values of the object's own sign and of the codestream's own precision."""
    if frame.values.shape != (form.rows, form.columns, *((form.samples,) if form.samples > 1 else ())):
        raise malformed("a frame is not of the size that the object states")
    stored, bits = form.stored, max(form.stored, frame.precision)
    form = replace(form, stored=bits, high=bits - 1, photometric=frame.photometric)
    held = min(stored, frame.precision)  # some encoders state the container's bits as the precision

    def extract(strip: Values) -> Stored:
        values = strip.astype(np.int32)
        if form.signed:
            return _sign(values & ((1 << held) - 1), held) if strip.dtype.kind == "u" else values
        masked: Stored = values & ((1 << bits) - 1)
        return masked

    return map_strips(extract, frame.values, np.int32), form


def _split_fragments(body: bytes, pixels: PixelElement) -> tuple[bytes, list[bytes], int]:
    """The offset table, the fragments and the end of encapsulated pixel data; all of it must be there."""
    found: list[bytes] = []
    at = pixels.start
    while body[at : at + 4] != _DELIMITER:
        if body[at : at + 4] != _ITEM or at + 8 > len(body):
            raise damaged("its fragments end early")
        (length,) = struct.unpack_from("<I", body, at + 4)
        if at + 8 + length > len(body):
            raise damaged("its last fragment ends early")
        found.append(body[at + 8 : at + 8 + length])
        at += 8 + length
    if len(found) < 2:
        raise malformed("it has no fragments")
    if at + 8 > len(body):
        raise damaged("its fragments end early")
    return found[0], found[1:], at + 8


def _join_frame(table: bytes, fragments: list[bytes], form: PixelFormat, index: int) -> bytes:
    """The fragments of one frame, joined."""
    if form.frames == 1:
        if len(table) > 4 or sum(fragment.startswith(_STARTS) for fragment in fragments) > 1:
            raise malformed("it has the pixels of several frames where it states one")
        return b"".join(fragments)
    if len(fragments) == form.frames:
        return fragments[index]
    starts = struct.unpack_from(f"<{len(table) // 4}I", table)
    if len(starts) == form.frames:
        return b"".join(
            _between(fragments, starts[index], starts[index + 1] if index + 1 < len(starts) else None)
        )
    raise ImageError(
        Status.UNSUPPORTED,
        f"Its {form.frames} frames cannot be told apart: it has {len(fragments)} fragments and "
        f"{len(starts)} offsets. It needs one fragment a frame, or an offset table.",
    )


def _between(fragments: list[bytes], start: int, end: int | None) -> list[bytes]:
    """The fragments whose item tags stand from one offset up to another, counted from the first's."""
    at, found = 0, []
    for fragment in fragments:
        if at >= start and (end is None or at < end):
            found.append(fragment)
        at += 8 + len(fragment)
    return found


def choose_frame(attributes: Attributes, form: PixelFormat) -> int:
    """Choose the frame that stands for the object: the only one, or the one that it calls representative.

    Returns its number from 0. Raises ImageError 'unsupported' where nothing says which of several counts.
    """
    number = attributes.short(0x00286010)
    if number and 1 <= number <= form.frames:
        return number - 1
    if form.frames == 1:
        return 0
    raise ImageError(
        Status.UNSUPPORTED,
        f"It has {form.frames:,} frames and no Representative Frame Number that says which one counts. Save "
        "that frame as a file of its own.",
    )
