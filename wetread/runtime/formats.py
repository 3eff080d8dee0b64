"""Image file headers: the kind, the size, the orientation, and whether the file is whole.

Read before anything is decoded, so that a cut or a lying file is found by its own structure and an
oversized one costs nothing. Each reader raises ImageError: what cannot be an input is a status.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import simplejpeg

from wetread.errors import ImageError


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself: kind, height and width in pixels as stored, EXIF orientation 1 to 8."""

    kind: str
    height: int
    width: int
    orientation: int = 1
    jpeg_colorspace: str = ""


def read_header(data: bytes) -> Header:
    """Tell what image the bytes are.

    Raises ImageError: 'empty', 'not_an_image', 'truncated' (cut short, or damaged) or 'unsupported'.
    """
    if not data:
        raise ImageError("empty", "Expected an image. Received 0 bytes.")
    for magic, reader in _READERS:
        if data.startswith(magic):
            try:
                return reader(data)
            except (struct.error, IndexError) as error:
                raise truncated("its header ends early") from error
    for start, magic, name in _UNSUPPORTED:
        if data[start : start + len(magic)] == magic:
            raise ImageError("unsupported", f"Expected JPEG, PNG, TIFF, WebP, BMP or PNM. Received {name}.")
    raise ImageError("not_an_image", "Expected JPEG, PNG, TIFF, WebP, BMP or PNM. Received something else.")


def truncated(reason: str) -> ImageError:
    """The error of a file that is cut short or damaged."""
    return ImageError("truncated", f"Expected a whole image. Received one that is cut or damaged: {reason}.")


def _read_jpeg(data: bytes) -> Header:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        if "nsupported" in str(error):
            raise ImageError("unsupported", f"Expected a baseline or progressive JPEG. {error}.") from error
        raise truncated(str(error)) from error
    return Header("jpeg", height, width, _jpeg_orientation(data), colorspace)


def _jpeg_orientation(data: bytes) -> int:
    """Find the EXIF orientation by walking the marker segments up to the start of the scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return exif_orientation(data[at + 10 : at + 2 + size])
        at += 2 + size
    return 1


def exif_orientation(tiff: bytes) -> int:
    """Read tag 274 (Orientation) from a TIFF structure; 1 where it is absent or out of range."""
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == 274 and kind == 3:
                return value if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        return 1
    return 1


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walk (type, body), holding every chunk to its CRC, up to and with IEND."""
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if at + 12 + size > len(data):
            break
        name, body = data[at + 4 : at + 8], view[at + 8 : at + 8 + size]
        if zlib.crc32(view[at + 4 : at + 8 + size]) != struct.unpack_from(">I", data, at + 8 + size)[0]:
            raise truncated(f"the checksum of its {name.decode('latin-1')} chunk is wrong")
        yield name, bytes(body)
        if name == b"IEND":
            return
        at += 12 + size
    raise truncated("it has no end chunk")


def _read_png(data: bytes) -> Header:
    height = width = 0
    orientation = 1
    for name, body in _png_chunks(data):
        if name == b"IHDR":
            width, height = struct.unpack_from(">II", body)
        elif name == b"eXIf":
            orientation = exif_orientation(body)
        elif name == b"acTL":
            raise ImageError("unsupported", "Expected one picture in a file. Received an animated PNG.")
    if not height or not width:
        raise truncated("it has no size")
    return Header("png", height, width, orientation)


def _read_bmp(data: bytes) -> Header:
    offset, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)
    if width <= 0 or height <= 0:
        raise truncated("it has no size")
    if compression in (0, 3) and offset + (width * bits + 31) // 32 * 4 * height > len(data):
        raise truncated("its pixels end early")
    return Header("bmp", height, width)


def _read_webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if data[8:12] != b"WEBP":
        raise ImageError("not_an_image", "Expected an image. Received a RIFF file of another kind.")
    if size + 8 > len(data):
        raise truncated("its data end early")
    height = width = 0
    orientation, at = 1, 12
    while at + 8 <= size + 8:
        name, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        body = at + 8
        if name == b"VP8X":
            if data[body] & 2:
                raise ImageError("unsupported", "Expected one picture in a file. Received an animated WebP.")
            width = 1 + int.from_bytes(data[body + 4 : body + 7], "little")
            height = 1 + int.from_bytes(data[body + 7 : body + 10], "little")
        elif name == b"VP8L" and not width:
            (packed,) = struct.unpack_from("<I", data, body + 1)
            width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
        elif name == b"VP8 " and not width:
            width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, body + 6))
        elif name == b"EXIF":
            exif = data[body : body + length]
            orientation = exif_orientation(exif.removeprefix(b"Exif\0\0"))
        at = body + length + length % 2
    if not height or not width:
        raise truncated("it has no size")
    return Header("webp", height, width, orientation)


_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4}


def _read_tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    pages, seen = [], set()
    while at and at not in seen:
        seen.add(at)
        tags, at = _tiff_directory(data, at, order)
        if not tags.get(254, [0])[0] & 1:  # a thumbnail is not a page
            pages.append(tags)
    if len(pages) != 1:
        raise ImageError("unsupported", f"Expected one page in a file. Received a TIFF of {len(pages)}.")
    tags = pages[0]
    for starts, counts in ((273, 279), (324, 325)):
        for start, count in zip(tags.get(starts, []), tags.get(counts, []), strict=False):
            if start + count > len(data):
                raise truncated("its pixels end early")
    width, height = tags.get(256, [0])[0], tags.get(257, [0])[0]
    if not width or not height:
        raise truncated("it has no size")
    orientation = tags.get(274, [1])[0]
    return Header("tiff", height, width, orientation if 1 <= orientation <= 8 else 1)


def _tiff_directory(data: bytes, at: int, order: str) -> tuple[dict[int, list[int]], int]:
    """One image file directory: its integer tags, and where the next one stands (0: nowhere)."""
    (count,) = struct.unpack_from(order + "H", data, at)
    tags: dict[int, list[int]] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
        letter = {1: "B", 3: "H", 4: "I"}.get(kind)
        if letter is None:
            continue
        size = _TIFF_SIZES[kind] * length
        start = entry + 8 if size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        if start + size > len(data):
            raise truncated("its directory ends early")
        tags[tag] = list(struct.unpack_from(f"{order}{length}{letter}", data, start))
    return tags, struct.unpack_from(order + "I", data, at + 2 + 12 * count)[0]


def _read_pnm(data: bytes) -> Header:
    fields: list[int] = []
    at = 2
    while len(fields) < 3:
        while data[at : at + 1].isspace() or data[at] == 0x23:
            at = data.index(b"\n", at) + 1 if data[at] == 0x23 else at + 1
        end = at
        while data[end : end + 1].isdigit():
            end += 1
        if end == at or end - at > 10:
            raise ImageError("not_an_image", "Expected an image. Received a text that starts like a PNM.")
        fields.append(int(data[at:end]))
        at = end
    width, height, top = fields
    samples = 3 if data[1:2] == b"6" else 1
    if not width or not height:
        raise truncated("it has no size")
    if at + 1 + width * height * samples * (2 if top > 255 else 1) > len(data):
        raise truncated("its pixels end early")
    return Header("pnm", height, width)


_READERS = (
    (b"\xff\xd8\xff", _read_jpeg),
    (b"\x89PNG\r\n\x1a\n", _read_png),
    (b"BM", _read_bmp),
    (b"RIFF", _read_webp),
    (b"II*\0", _read_tiff),
    (b"MM\0*", _read_tiff),
    (b"P5", _read_pnm),
    (b"P6", _read_pnm),
)

_UNSUPPORTED = (
    (0, b"GIF8", "a GIF, which may be animated: save it as PNG"),
    (0, b"II+\0", "a BigTIFF: save it as TIFF"),
    (0, b"MM\0+", "a BigTIFF: save it as TIFF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000: save it as PNG"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000: save it as PNG"),
    (0, b"\xff\x0a", "JPEG XL: save it as PNG"),
    (4, b"ftyp", "HEIC or AVIF: save it as PNG"),
    (128, b"DICM", "DICOM: save it as 16-bit PNG"),
)
