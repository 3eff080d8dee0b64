"""The memory and the time that one picture costs are bounded, whatever it says of itself."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.corpus import join_png, make_bmp, make_pnm, make_tiff
from tests.runtime.images.dicom.drawing import SYNTAXES, draw_xray, make_object, write_dicom
from tests.runtime.images.dicom.drawing import save as save_dicom
from tests.runtime.images.lossless_webp import (
    SUBTRACT_GREEN,
    make_palette,
    make_stream,
    make_transform,
    wrap,
    wrap_chunk,
)
from wetread.errors import ImageError
from wetread.runtime.images.formats import read_header
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

MIB = 1 << 20
# What the interpreter, the allocator and the tables of a decoder may take beside what is counted.
SLACK = 24 * MIB
MEASURE = """
import json, sys, time
from pathlib import Path
from tests.runtime.images.lossless_webp import (
    SUBTRACT_GREEN,
    make_palette,
    make_stream,
    make_transform,
    wrap,
    wrap_chunk,
)
from wetread.errors import ImageError
from wetread.runtime.images.formats import read_header
from wetread.runtime.images.pixels import read_picture, read_pixels
from wetread.runtime.images.recipe import PixelRecipe

def look(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) * 1024

limit = int(sys.argv[1])
recipes = [PixelRecipe(height=224, width=224, color=color) for color in ("gray", "rgb")]
for path in sys.argv[2:]:
    data = Path(path).read_bytes()
    for read, recipe in ((read_pixels, recipes[0]), (read_pixels, recipes[1]), (read_picture, recipes[1])):
        before, start = look("VmRSS"), time.perf_counter()
        Path("/proc/self/clear_refs").write_text("5")
        try:
            status = "ok" if len(read(data, recipe, max_memory=limit)) else ""
        except ImageError as error:
            status = error.status
        print(json.dumps([status, look("VmHWM") - before, time.perf_counter() - start]), flush=True)
"""
needs_peaks = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="no /proc/self/clear_refs: it resets the peak"
)


def measure(folder: Path, files: dict[str, bytes], limit: int) -> dict[str, list[tuple[str, int, float]]]:
    """Status, peak in bytes and seconds of each file: gray, in colours, and at full size."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    paths = [str(folder / name) for name in files]
    command = [sys.executable, "-c", MEASURE, str(limit), str(folder / next(iter(files))), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=True)
    lines = [tuple(json.loads(line)) for line in done.stdout.splitlines()[3:]]  # the first file warms up
    return {name: lines[3 * at : 3 * at + 3] for at, name in enumerate(files)}


def check(folder: Path, files: dict[str, bytes], limit: int, *, seconds: float | None = None) -> set[str]:
    """No file takes more than the limit, or the time; return what was read in all three ways."""
    found = measure(folder, files, limit)
    above = {
        name: runs
        for name, runs in found.items()
        if any(peak > limit + SLACK or (seconds and took > seconds) for _, peak, took in runs)
    }
    assert above == {}
    return {name for name, runs in found.items() if all(status == "ok" for status, _, _ in runs)}


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def draw_png(side: int, depth: int, color: int, interlace: int = 0) -> bytes:
    bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color] * depth
    size = 0
    for top, left, down, across in ADAM7 if interlace else [(0, 0, 1, 1)]:
        rows, columns = len(range(top, side, down)), len(range(left, side, across))
        size += rows * (1 + (columns * bits + 7) // 8) * bool(columns)
    squeeze, block = zlib.compressobj(9), bytes(1 << 20)
    parts = [squeeze.compress(block[: min(size - at, len(block))]) for at in range(0, size, len(block))]
    palette = [(b"PLTE", bytes(3))] if color == 3 else []
    data = b"".join([*parts, squeeze.flush()])
    return join_png((side, side, depth, color, interlace), *palette, (b"IDAT", data))


def pack_zeros(raw: bytes) -> bytes:
    """PackBits of zeros; imagecodecs' encoder needs a minute for what this does at once."""
    runs, rest = divmod(len(raw), 128)
    last = b"" if not rest else b"\0\0" if rest == 1 else bytes((257 - rest, 0))
    return b"\x81\0" * runs + last


def draw_tiff(side: int, bits: int, channels: int, compression: int, strips: int) -> bytes:
    pack = {1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress, 32773: pack_zeros}[compression]
    rows = -(-side // strips)
    sizes = [min(rows, side - top) * side * channels * bits // 8 for top in range(0, side, rows)]
    tags = {256: (side,), 257: (side,), 258: (bits,) * channels, 259: (compression,)}
    tags |= {262: (2 if channels == 3 else 1,), 277: (channels,), 278: (rows,)}
    return make_tiff([pack(bytes(size)) for size in sizes], tags)


def draw_webp(side: int) -> bytes:
    return cv2.imencode(".webp", np.zeros((side, side, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 101])[
        1
    ].tobytes()


def draw_jpeg(side: int, *, progressive: bool, scans: int = 0) -> bytes:
    """A black picture written by hand: one code of each Huffman table, and any number of scans."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body

    blocks = (-(-side // 8)) ** 2
    size = struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"
    out = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2 if progressive else 0xC0, size)
    # DC: '0' is no difference. AC: '0' is a run of 16384 blocks or more without a value, '10' one block.
    out += segment(0xC4, b"\0\1" + bytes(15) + b"\0")
    ends = b"\xe0\0" if progressive else b"\0"
    out += segment(0xC4, b"\x10" + bytes([1] * len(ends) + [0] * (16 - len(ends))) + ends)

    def pack(bits: str) -> bytes:
        return (
            int(bits + "1" * (-len(bits) % 8), 2)
            .to_bytes(-(-len(bits) // 8), "big")
            .replace(b"\xff", b"\xff\0")
        )

    if not progressive:
        return out + segment(0xDA, b"\1\1\0\0\x3f\0") + pack("0" * (2 * blocks)) + b"\xff\xd9"
    out += segment(0xDA, b"\1\1\0\0\0\0") + pack("0" * blocks)
    runs, rest = divmod(blocks, 32767)
    bits = ("0" + "1" * 14) * runs
    bits += "0" + format(rest - 16384, "014b") if rest >= 16384 else "10" * rest
    return out + (segment(0xDA, b"\1\1\0\x01\x3f\0") + pack(bits)) * (1 + scans) + b"\xff\xd9"


def draw_dicom(side: int, kind: str) -> bytes:
    if kind == "rle":
        runs = -(-side * side // 128)
        found = make_object(np.zeros((8, 8), np.uint8), bits=8, photometric="MONOCHROME2")
        found.Rows = found.Columns = side
        segments = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * runs
        length = struct.pack("<I", len(segments))
        found.PixelData = (
            b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0" + length + segments + b"\xfe\xff\xdd\xe0\0\0\0\0"
        )
        found["PixelData"].VR = "OB"
        found["PixelData"].is_undefined_length = True
        return save_dicom(found, SYNTAXES["rle"])
    shape = (side, side, 3) if kind == "deflated rgb" else (side, side)
    frame = np.zeros(shape, np.uint16 if kind == "jpeg 2000 lossless" else np.uint8)
    if kind == "deflated frames":
        return write_dicom([frame] * 8, bits=8, syntax="deflated", extra={"RepresentativeFrameNumber": 8})
    return write_dicom(
        frame,
        bits=16 if frame.itemsize == 2 else 8,
        syntax=kind.partition(" rgb")[0],
        photometric="RGB" if frame.ndim == 3 else "MONOCHROME2",
    )


FORMATS: dict[str, Callable[[int], bytes]] = {
    **{
        f"png {color} of {depth} bits": lambda side, depth=depth, color=color: draw_png(side, depth, color)
        for depth, color in ((1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (8, 6), (16, 6))
    },
    "png interlaced": lambda side: draw_png(side, 8, 2, 1),
    **{
        f"tiff {form}": lambda side, form=form: draw_tiff(side, *form)
        for form in ((8, 1, 8, 1), (16, 3, 8, 1), (16, 1, 5, 8), (8, 3, 32773, 8), (16, 1, 1, 1))
    },
    "webp": draw_webp,
    "jpeg gray": lambda side: draw_jpeg(side, progressive=False),
    "jpeg color": lambda side: simplejpeg.encode_jpeg(np.zeros((side, side, 3), np.uint8), 90, "RGB", "444"),
    "jpeg progressive": lambda side: draw_jpeg(side, progressive=True),
    "bmp": lambda side: make_bmp(np.zeros((side, side, 1), np.uint8), 1, palette=np.zeros((2, 3), np.uint8)),
    "pnm": lambda side: make_pnm(np.zeros((side, side, 3), np.uint8)),
    **{
        f"dicom {kind}": lambda side, kind=kind: draw_dicom(side, kind)
        for kind in ("explicit", "deflated rgb", "deflated frames", "rle", "jpeg 2000 lossless", "jpeg-ls")
    },
}


@needs_peaks
@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_takes_no_more_than_the_limit(tmp_path, name):
    """Sides around the one that 64 MiB allow: some are read, some refused, and none takes more."""
    sides = [400, 2400]
    read = check(tmp_path, {str(side): FORMATS[name](side) for side in sides}, 64 * MIB)
    assert "400" in read


@needs_peaks
@pytest.mark.long
@pytest.mark.parametrize("name", FORMATS)
def test_no_picture_of_ten_megabytes_takes_more_than_a_gigabyte_or_a_minute(tmp_path, name):
    """The largest of these sides is refused from the header; those before it come near the limit."""
    files = {}
    for side in (4_000, 8_000, 12_000, 16_000):
        data = FORMATS[name](side)
        if len(data) > 10 * 10**6:
            break
        files[str(side)] = data
    if files:
        check(tmp_path, files, 1024 * MIB, seconds=60)


@needs_peaks
@pytest.mark.long
def test_thousands_of_scans_and_attributes_take_neither_time_nor_memory(tmp_path):
    plain = write_dicom(draw_xray(8), bits=8)
    at = plain.index(b"\x28\0\x02\0")
    item, end = b"\xfe\xff\0\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
    sequence = b"\x09\0\x10\x10SQ\0\0\xff\xff\xff\xff" + item * 1_200_000 + end
    elements = b"".join(struct.pack("<HH2sH", 0x11, i & 0xFFFF, b"LO", 0) for i in range(1_200_000))
    files = {
        "scans of a large": draw_jpeg(16_000, progressive=True, scans=10_000),
        "scans of a small": draw_jpeg(64, progressive=True, scans=400_000),
        "items": plain[:at] + sequence + plain[at:],
        "elements": plain[:at] + elements + plain[at:],
    }
    assert {name: len(data) for name, data in files.items() if len(data) > 12 * 10**6} == {}
    check(tmp_path, files, 1024 * MIB, seconds=60)


def draw_webps(side: int, groups: int, *, long: bool = True) -> dict[str, bytes]:
    """WebPs by hand of so many groups of prefix codes, in each place for a lossless stream."""
    sides = 2 * (side - 1).to_bytes(3, "little")
    plain = wrap_chunk(b"VP8L", make_stream(side, side, groups, long=long))
    black = np.zeros((side, side, 3), np.uint8)
    lossy = cv2.imencode(".webp", black, [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes()[20:]
    transforms = (make_transform(0, 2), SUBTRACT_GREEN, make_transform(1, 2))
    alpha = make_stream(side, side, groups, long=long, alpha=True)
    packed = make_stream(side, 2 * side, groups, long=long, transforms=(make_palette(16),), colors=16)
    frame = wrap_chunk(b"ANMF", bytes(6) + sides + bytes(4) + plain)
    return {
        "plain": wrap((b"VP8L", plain[8:])),
        "no cache": wrap((b"VP8L", make_stream(side, side, groups, cache_bits=0, long=long))),
        "transforms": wrap((b"VP8L", make_stream(side, side, groups, transforms=transforms, long=long))),
        "palette": wrap((b"VP8L", packed)),
        "alpha": wrap((b"VP8X", b"\x10\0\0\0" + sides), (b"ALPH", b"\1" + alpha), (b"VP8 ", lossy)),
        "frame": wrap((b"VP8X", b"\2\0\0\0" + sides), (b"ANIM", bytes(6)), (b"ANMF", frame[8:])),
    }


def count_decoding(data: bytes) -> int:
    """The bytes that a WebP's decoder is counted with when its picture fits, but not any tables."""
    least = 11 * read_header(data).pixels + 2 * len(data)
    return read_header(data, max_memory=least).count_memory(len(data)).decoding


def check_counted(folder: Path, files: dict[str, bytes]) -> None:
    """Each WebP is read with the bytes that are counted, takes no more, and is refused with fewer."""
    found = measure(folder, files, 1 << 34)
    for name, data in files.items():
        counted = count_decoding(data)
        assert [status for status, _, _ in found[name]] == ["ok"] * 3, name
        assert max(peak for _, peak, _ in found[name]) < counted + SLACK, name
        with pytest.raises(ImageError, match="pixels needs") as caught:
            read_pixels(data, PixelRecipe(height=224, width=224), max_memory=counted - 1)
        assert caught.value.status == "too_large"


@needs_peaks
def test_groups_of_prefix_codes_in_a_webp_are_counted(tmp_path):
    files = draw_webps(208, 2_704)
    check_counted(tmp_path, {name: files[name] for name in ("plain", "alpha")})
    counted = {name: count_decoding(data) for name, data in files.items()}
    assert counted["plain"] == 11 * 208**2 + 2_704 * 20_584 + 2 * len(files["plain"])
    assert counted["no cache"] == 11 * 208**2 + 2_704 * 12_384 + 2 * len(files["no cache"])


@needs_peaks
@pytest.mark.long
@pytest.mark.parametrize("name", draw_webps(16, 16))
def test_a_webp_of_65536_groups_is_refused(tmp_path, name):
    """Where it is allowed, it takes no more than is counted, with the longest codes and the shortest."""
    files = {"long": draw_webps(1_024, 65_536)[name], "short": draw_webps(4_096, 65_536, long=False)[name]}
    if name != "no cache":
        with pytest.raises(ImageError, match="1,024 MiB are allowed"):
            read_pixels(files["long"], PixelRecipe(height=224, width=224))
    check_counted(tmp_path, files)


@needs_peaks
def test_wide_and_flat_pictures_count_what_scaling_them_holds(tmp_path):
    files = {
        "wide": make_pnm(np.zeros((1, 1_000_000, 3), np.uint8)),
        "tall": make_pnm(np.zeros((1_000_000, 1, 3), np.uint8)),
    }
    check(tmp_path, files, 64 * MIB)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: claim("png", 17_000), "17,000 x 17,000 pixels needs"),
        (lambda: draw_webp(16_000), "16,000 x 16,000 pixels needs"),
        (lambda: draw_dicom(17_000, "rle"), "17,000 x 17,000 pixels needs"),
    ],
)
def test_what_needs_more_is_refused_with_both_figures(data, words):
    with pytest.raises(ImageError, match=words) as caught:
        read_pixels(data(), PixelRecipe(height=224, width=224))
    assert caught.value.status == "too_large"
    assert "1,024 MiB are allowed. Raise --max-memory" in str(caught.value)


@pytest.mark.long
@pytest.mark.parametrize(
    "data",
    [
        lambda: simplejpeg.encode_jpeg(np.zeros((6_616, 5_380, 1), np.uint8), 90, "GRAY"),
        lambda: write_dicom(np.zeros((5_000, 4_000), np.uint16), bits=16),
        lambda: join_png((12_000, 9_000, 8, 2, 0), (b"IDAT", zlib.compress(bytes((12_000 * 3 + 1) * 9_000)))),
    ],
)
def test_large_real_pictures_are_read(data):
    assert read_pixels(data(), PixelRecipe(height=224, width=224)).shape == (224, 224, 1)


@needs_peaks
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_header_that_lies_takes_no_more(tmp_path, data):
    """A small file of any format whose header claims any size."""
    kinds = st.sampled_from(["png", "pnm", "tiff", "dicom", "jpeg"])
    drawn = data.draw(st.lists(st.tuples(kinds, st.integers(1, 60_000)), min_size=12, max_size=12))
    check(tmp_path, {str(at): claim(*one) for at, one in enumerate(drawn)}, 32 * MIB)


def claim(kind: str, side: int) -> bytes:
    """A small file that says that it is `side` pixels high and wide."""
    if kind == "png":
        return join_png((side, side, 16, 6, 0), (b"IDAT", zlib.compress(bytes(1000))))
    if kind == "pnm":
        return b"P6 %d %d 255\n" % (side, side) + bytes(100)
    if kind == "tiff":
        sides = {256: (side,), 257: (side,), 258: (16,), 278: (side,)}
        return make_tiff([bytes(100)], sides | {259: (8,), 262: (1,), 277: (1,)})
    if kind == "dicom":
        return write_dicom(draw_xray(8), bits=8, extra={"Rows": side, "Columns": side})
    small = draw_jpeg(8, progressive=True)
    return small.replace(b"\x08\0\x08\0\x08\1", struct.pack(">BHHB", 8, side, side, 1))
