"""TIFFs that careless writers leave: read as libtiff reads them, and never with anything made up."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.corpus import draw_noise, draw_picture, make_plain_tiff, make_tiff, save, tag_tiff
from wetread.errors import ImageError
from wetread.runtime.images.formats import read_header
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

GRAY = draw_picture(40, 60, channels=1)
RECIPE = PixelRecipe(height=40, width=60)
CASES = Path(__file__).parents[4] / "shared" / "cases" / "tiff_kept_by_others"
COMPRESSIONS = {1: "raw", 5: "tiff_lzw", 8: "tiff_adobe_deflate", 32773: "packbits"}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def read_status(data: bytes) -> str:
    try:
        read_pixels(data, RECIPE)
    except ImageError as error:
        return error.status
    return "ok"


def check_gray(data: bytes) -> None:
    np.testing.assert_array_equal(read_pixels(data, RECIPE), GRAY)


def pack_strips(compression: int, rows: int = 20) -> list[bytes]:
    """The strips of GRAY, compressed by Pillow's libtiff."""
    strips = []
    for top in range(0, 40, rows):
        file = save(GRAY[top : top + rows], "TIFF", compression=COMPRESSIONS[compression])
        tags = read_header(file).tags
        strips.append(file[tags[273][0] :][: tags[279][0]])
    return strips


def make_gray(compression: int = 1, *, rows: int = 20, **more: tuple[int, ...]) -> bytes:
    tags = tag_tiff(GRAY, 8, 1) | {259: (compression,), 278: (rows,)}
    extra = {int(name[1:]): value for name, value in more.items()}
    return make_tiff(pack_strips(compression, rows), tags | extra)


def read_by_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def find_directory(tiff: bytes) -> int:
    return struct.unpack_from("<I", tiff, 4)[0]


def set_next(tiff: bytes, place: int) -> bytes:
    at = find_directory(tiff)
    at += 2 + 12 * struct.unpack_from("<H", tiff, at)[0]
    return tiff[:at] + struct.pack("<I", place) + tiff[at + 4 :]


def drop_tag(tiff: bytes, tag: int) -> bytes:
    """Give a tag a number that nobody reads."""
    at = find_directory(tiff) + 2
    while struct.unpack_from("<H", tiff, at)[0] != tag:
        at += 12
    return tiff[:at] + struct.pack("<H", 65000) + tiff[at + 2 :]


@pytest.mark.parametrize("rows", [20, 40])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_strips_without_their_sizes_are_read(compression, rows):
    file = make_gray(compression, rows=rows)
    check_gray(drop_tag(file, 279))
    check_gray(make_gray(compression, rows=rows, t279=(0,) * (40 // rows)))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_short_strip_without_its_size_is_found(compression):
    """Neither the next strip nor the directory is taken for what is missing."""
    strips = pack_strips(compression)
    tags = tag_tiff(GRAY, 8, 1) | {259: (compression,), 278: (20,)}
    for index in range(2):
        cut = [strip[: len(strip) // 2] if k == index else strip for k, strip in enumerate(strips)]
        assert read_status(drop_tag(make_tiff(cut, tags), 279)) in ("truncated", "malformed")


@pytest.mark.parametrize("size", [40 * 60 + 1, 10_000, 2**32 - 1])
def test_plain_pixels_of_too_large_a_size_are_read(size):
    check_gray(make_gray(rows=40, t279=(size,)))


@pytest.mark.parametrize("compression", [5, 8, 32773])
def test_packed_pixels_of_a_size_past_the_file_are_cut(compression):
    assert read_status(make_gray(compression, rows=40, t279=(10_000,))) == "truncated"


def test_pixels_that_end_early_are_found_whatever_their_size_says():
    head = struct.pack("<2sHI", b"II", 42, 8)
    entries = {256: 60, 257: 40, 258: 8, 259: 1, 262: 1, 273: 8 + 2 + 96 + 4, 278: 40, 279: 10**6}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    file = head + struct.pack("<H", 8) + tags + bytes(4) + GRAY.tobytes()
    check_gray(file)
    assert [read_status(file[:-cut]) for cut in (1, 60, 2399)] == ["truncated"] * 3


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_reversed_bits_are_turned(compression):
    strips = [strip.translate(REVERSED) for strip in pack_strips(compression)]
    tags = tag_tiff(GRAY, 8, 1) | {259: (compression,), 278: (20,), 266: (2,)}
    check_gray(make_tiff(strips, tags))


@pytest.mark.parametrize(("depth", "order"), [(1, "<"), (4, "<"), (16, "<"), (16, ">")])
def test_reversed_bits_of_other_depths_are_turned(depth, order):
    samples = draw_noise(40, 60, 1, top=(1 << depth) - 1)
    plain = make_plain_tiff(samples, depth, 1, order=order)
    tags = tag_tiff(samples, depth, 1) | {266: (2,)}
    start = read_header(plain).tags[273][0]
    strip = plain[start:][: read_header(plain).tags[279][0]].translate(REVERSED)
    turned = make_tiff([strip], tags, order=order)
    np.testing.assert_array_equal(read_pixels(turned, RECIPE), read_pixels(plain, RECIPE))


@pytest.mark.parametrize("place", [2**31 - 1, 2**32 - 1, 9, 10**6])
def test_rubbish_for_the_next_directory_is_passed_over(place):
    file = set_next(make_gray(), place)
    check_gray(file)
    check_gray(file + b"\0")


def test_a_second_page_that_is_cut_off_is_found():
    """Its pixels stand before its directory, so the place of that is outside of what is left."""
    two = io.BytesIO()
    pages = [Image.fromarray(page[..., 0]) for page in (GRAY, GRAY[::-1])]
    pages[0].save(two, "TIFF", save_all=True, append_images=pages[1:])
    whole = two.getvalue()
    assert read_status(whole) == "unsupported"
    cuts = range(find_directory(whole) + 200, len(whole) - 1, 97)
    assert [cut for cut in cuts if read_status(whole[:cut]) == "ok"] == []


@pytest.mark.skipif(shutil.which("tiffcp") is None, reason="no tiffcp (libtiff-tools)")
def test_tiffcp_copies_the_same_picture(tmp_path):
    kept = {
        "counts": drop_tag(make_gray(rows=40), 279),
        "large": make_gray(rows=40, t279=(10_000,)),
        "next": set_next(make_gray(), 2**31 - 1),
        "fill": make_tiff([GRAY.tobytes().translate(REVERSED)], tag_tiff(GRAY, 8, 1) | {266: (2,)}),
    }
    for name, data in kept.items():
        (tmp_path / "in.tif").write_bytes(data)
        subprocess.run(
            ["tiffcp", "-f", "msb2lsb", "in.tif", "out.tif"], cwd=tmp_path, capture_output=True, check=True
        )
        copied = np.asarray(Image.open(tmp_path / "out.tif"))
        np.testing.assert_array_equal(copied, GRAY[..., 0], name)
        check_gray(data)


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no case files: {CASES}")
def test_every_case_that_others_read_is_read_alike():
    recipe = PixelRecipe(height=131, width=157)
    pictures = {path.name: read_pixels(path.read_bytes(), recipe) for path in sorted(CASES.glob("*.tif"))}
    expected = read_by_pillow(CASES / "t_next_garbage.tif")
    assert len(pictures) == 4
    for name, picture in pictures.items():
        np.testing.assert_array_equal(picture[..., 0], expected, name)
