"""Draw and encode the pictures of the pixel tests: every format, written by Pillow or byte by byte here."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.unsignedinteger]

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def draw_picture(height: int = 37, width: int = 53, channels: int = 3, *, top: int = 255) -> Array:
    """A smooth picture that differs from each of its turned and mirrored selves. (H, W, C), 0 to `top`."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    waves = (0.15 * np.sin(7 * x * y + 2 * k) * (1 - x) for k in range(channels))
    planes = (0.15 + 0.5 * x + 0.2 * y * (k + 1) / 3 + wave for k, wave in enumerate(waves))
    picture = np.stack(list(planes), axis=2)
    picture[: height // 3, : width // 4] *= 0.3
    return np.clip(np.rint(picture * top), 0, top).astype(np.uint8 if top <= 255 else np.uint16)


def draw_noise(height: int, width: int, channels: int, *, top: int = 255) -> Array:
    """Random samples that touch 0 and `top`. (H, W, C)."""
    generator = np.random.default_rng(height * width + channels)
    noise = generator.integers(0, top, (height, width, channels), endpoint=True)
    noise.flat[:2] = 0, top
    return noise.astype(np.uint8 if top <= 255 else np.uint16)


def save(image: Array | Image.Image, kind: str, **options: object) -> bytes:
    """Encode by Pillow."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def make_exif(orientation: int, *, thumbnail: bytes = b"") -> bytes:
    """An EXIF block (without its mark) with an orientation and, in a second directory, a JPEG thumbnail."""
    first = struct.pack(">HHHIHH", 1, 274, 3, 1, orientation, 0)
    second = struct.pack(">HHHIIHHIII", 2, 513, 4, 1, 56, 514, 4, 1, len(thumbnail), 0)
    head = b"MM\0*" + struct.pack(">I", 8) + first + struct.pack(">I", 26 if thumbnail else 0)
    return head + (second + thumbnail if thumbnail else b"")


def chunk(name: bytes, body: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def join_png(ihdr: tuple[int, ...], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of a header (width, height, depth, color, interlace) and chunks, closed with IEND."""
    width, height, depth, color, interlace = ihdr
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in ((b"IHDR", head), *chunks, (b"IEND", b"")))


def pack_rows(samples: Array, depth: int) -> list[bytes]:
    """Each row of (H, W, C) samples as bytes, highest bits first."""
    if depth >= 8:
        return [row.astype(f">u{depth // 8}").tobytes() for row in samples]
    bits = (samples[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return list(map(bytes, np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1)))


def filter_rows(rows: list[bytes], bytes_per_pixel: int) -> bytes:
    """PNG's filters none, sub and up in turn, each row after its filter's number."""
    out, above = [], bytes(len(rows[0]))
    for index, row in enumerate(rows):
        kind = index % 3
        near = (b"", bytes(bytes_per_pixel) + row[:-bytes_per_pixel], above)[kind]
        out += [bytes((kind,)), bytes((a - b) & 255 for a, b in zip(row, near, strict=True)) if kind else row]
        above = row
    return b"".join(out)


def make_png(
    samples: Array, depth: int, color: int, *chunks: tuple[bytes, bytes], interlace: bool = False
) -> bytes:
    """A PNG of (H, W, C) samples as they are to be stored."""
    height, width, channels = samples.shape
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    data = b""
    for column, row, across, down in passes:
        part = samples[row::down, column::across]
        if part.size:
            data += filter_rows(pack_rows(part, depth), max(depth * channels // 8, 1))
    packed = zlib.compress(data)
    middle = len(packed) // 2
    halves = (b"IDAT", packed[:middle]), (b"IDAT", packed[middle:])
    return join_png((width, height, depth, color, int(interlace)), *chunks, *halves)


def make_tiff(blocks: list[bytes], tags: dict[int, tuple[int, ...]], *, order: str = "<") -> bytes:
    """A TIFF of packed strips (or tiles, where `tags` has 322); all tags are 32-bit, but for the palette."""
    places, data = [], b""
    for block in blocks:
        places.append(8 + len(data))
        data += block + b"\0" * (len(block) % 2)
    where, counts = (324, 325) if 322 in tags else (273, 279)
    tags = {where: tuple(places), counts: tuple(len(block) for block in blocks), **tags}
    at = 8 + len(data)
    extra_at, entries, extra = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, values in sorted(tags.items()):
        kind, letter = (3, "H") if tag in (258, 320) else (4, "I")
        body = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(body) > 4:
            body, extra = struct.pack(order + "I", extra_at + len(extra)), extra + body
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(order + "I", at)
    return head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + extra


def tag_tiff(samples: Array, depth: int, photometric: int) -> dict[int, tuple[int, ...]]:
    """The tags of one uncompressed strip of (H, W, C) samples."""
    height, width, channels = samples.shape
    sides = {256: (width,), 257: (height,), 258: (depth,) * channels, 278: (height,)}
    return sides | {259: (1,), 262: (photometric,), 277: (channels,)}


def make_plain_tiff(
    samples: Array,
    depth: int,
    photometric: int,
    *,
    order: str = "<",
    more: dict[int, tuple[int, ...]] | None = None,
) -> bytes:
    """An uncompressed TIFF of one strip, with `more` tags."""
    if depth == 16:
        strip = samples.astype(order + "u2").tobytes()
    else:
        strip = b"".join(pack_rows(samples, depth))
    return make_tiff([strip], tag_tiff(samples, depth, photometric) | (more or {}), order=order)


def make_bmp(
    samples: Array,
    bits: int,
    *,
    palette: Array | None = None,
    masks: tuple[int, ...] = (),
    core: bool = False,
    downward: bool = False,
) -> bytes:
    """A BMP of (H, W, C) samples as they are to be stored: indices, or blue, green, red (and a fourth)."""
    height, width = samples.shape[:2]
    rows = [row + b"\0" * (-len(row) % 4) for row in pack_rows(samples, min(bits, 8))]
    data = b"".join(rows if downward else rows[::-1])
    if core:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
        table = b"" if palette is None else palette[:, ::-1].tobytes()
    else:
        size = 40 if len(masks) < 4 else 108
        compression, colors = (3 if masks else 0), (0 if palette is None else len(palette))
        head = struct.pack("<IiiHHIIiiII", size, width, -height if downward else height, 1, bits, compression,
                           len(data), 2835, 2835, colors, 0)  # fmt: skip
        head += struct.pack(f"<{len(masks)}I", *masks)
        head = head.ljust(size if len(masks) != 3 else 52, b"\0")
        table = b"" if palette is None else np.pad(palette[:, ::-1], ((0, 0), (0, 1))).tobytes()
    offset = 14 + len(head) + len(table)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + head + table + data


def make_pnm(samples: Array, *, top: int = 255, comment: bytes = b"") -> bytes:
    """A binary PGM or PPM."""
    height, width, channels = samples.shape
    head = b"P%d\n%s%d %d\n%d\n" % (5 if channels == 1 else 6, comment, width, height, top)
    return head + samples.astype(">u2" if top > 255 else np.uint8).tobytes()


def find_segment(jpeg: bytes, marker: int) -> int:
    """Where the first segment of a marker (0xC0, say) stands in a JPEG."""
    at = 2
    while jpeg[at + 1] != marker:
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return at


def insert_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """Put a segment at the start of a JPEG."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def split_scans(planes: list[Array]) -> bytes:
    """A baseline JPEG with a scan of its own for each plane (H, W, 1): Y, Cb and Cr."""
    files = [save(plane, "JPEG", quality=90) for plane in planes]
    first, scan = files[0], find_segment(files[0], 0xDA)
    frame = find_segment(first, 0xC0)
    components = b"".join(bytes((number, 0x11, 0)) for number in range(1, len(planes) + 1))
    head = first[frame + 4 : frame + 9] + bytes((len(planes),)) + components
    out = first[:frame] + b"\xff\xc0" + struct.pack(">H", len(head) + 2) + head + first[frame + 13 : scan]
    for number, file in enumerate(files, 1):
        start = find_segment(file, 0xDA)
        out += b"\xff\xda\0\x08\1" + bytes((number, 0, 0, 63, 0)) + file[start + 10 : -2]
    return out + b"\xff\xd9"


def draw_corpus() -> dict[str, bytes]:
    """One whole file of each kind that wetread reads, by name."""
    rgb, gray, noise = draw_picture(), draw_picture(channels=1), draw_noise(19, 23, 3)
    rgba = np.dstack([rgb, draw_picture(channels=1)[::-1]])
    cmyk = Image.fromarray(rgb).convert("CMYK")
    deep = draw_picture(channels=1, top=4095)
    palette = draw_noise(16, 1, 3)[:, 0]
    indices = (draw_picture(channels=1) // 16).astype(np.uint8)
    thumbnail = save(draw_picture(12, 16), "JPEG")
    plain = save(rgb, "JPEG")
    return {
        "jpeg": plain,
        "jpeg-gray": save(gray, "JPEG"),
        "jpeg-444": save(rgb, "JPEG", subsampling=0, quality=95),
        "jpeg-422": save(rgb, "JPEG", subsampling=1),
        "jpeg-progressive": save(rgb, "JPEG", progressive=True),
        "jpeg-progressive-gray": save(gray, "JPEG", progressive=True),
        "jpeg-restarts": save(rgb, "JPEG", restart_marker_blocks=2),
        "jpeg-optimized": save(rgb, "JPEG", optimize=True),
        "jpeg-scans": split_scans(np.split(np.asarray(Image.fromarray(rgb).convert("YCbCr")), 3, axis=2)),
        "jpeg-cmyk": save(cmyk, "JPEG"),
        "jpeg-exif": insert_segment(plain, 0xE1, b"Exif\0\0" + make_exif(6, thumbnail=thumbnail)),
        "png-gray": save(gray, "PNG"),
        "png-rgb": save(rgb, "PNG"),
        "png-rgba": save(rgba, "PNG"),
        "png-noise": make_png(noise, 8, 2),
        "png-16": make_png(deep, 16, 0),
        "png-rgb-16": make_png(draw_noise(9, 14, 3, top=65535), 16, 2),
        "png-bits": make_png(gray >> 7, 1, 0),
        "png-palette": make_png(indices, 4, 3, (b"PLTE", palette.tobytes()), (b"tRNS", b"\0\x50\xa0")),
        "png-interlaced": make_png(rgba, 8, 6, interlace=True),
        "png-exif": make_png(gray, 8, 0, (b"eXIf", make_exif(8)), (b"iCCP", b"broken")),
        "tiff": make_plain_tiff(gray, 8, 1),
        "tiff-rgb": save(rgb, "TIFF"),
        "tiff-16": make_plain_tiff(deep, 16, 0, order=">"),
        "tiff-lzw": save(rgb, "TIFF", compression="tiff_lzw"),
        "tiff-packbits": save(gray, "TIFF", compression="packbits"),
        "tiff-deflate": save(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "webp": save(rgb, "WEBP"),
        "webp-lossless": save(rgb, "WEBP", lossless=True),
        "webp-alpha": save(rgba, "WEBP", exif=b"Exif\0\0" + make_exif(5)),
        "bmp": make_bmp(rgb[..., ::-1], 24),
        "bmp-palette": make_bmp(indices, 4, palette=palette),
        "bmp-32": make_bmp(rgba[..., [2, 1, 0, 3]], 32, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        "pgm": make_pnm(gray),
        "ppm": make_pnm(rgb, comment=b"# drawn\n"),
        "pgm-16": make_pnm(deep, top=4095),
    }  # fmt: skip
