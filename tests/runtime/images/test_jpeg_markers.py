"""Markers that libjpeg warns of although the picture is whole, and damage that must not pass for them."""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.corpus import draw_corpus, draw_picture, find_segment, insert_segment, save
from wetread.errors import ImageError
from wetread.runtime.images.formats.jpeg_repair import is_fill
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

WHOLE = PixelRecipe(height=37, width=53, color="rgb", scaled_decoding=0)
SMALL = PixelRecipe(height=16, width=16)
END = b"\xff\xd9"
JFIF = b"JFIF\0\1\2\0\0\1\0\1\0\0"
CASES = Path(__file__).parents[4] / "shared" / "cases" / "jpeg_warnings"
# As a telephone leaves it behind the picture.
TRAILER = b"\0\0\1\x0a\x0e\0\0\0Image_UTC_Data1500000000SEFHk\0\0\0\1\0\0\0SEFT"


@cache
def draw_jpegs() -> dict[str, bytes]:
    corpus = {name: data for name, data in draw_corpus().items() if name.startswith("jpeg")}
    return corpus | {"jpeg-restarts-gray": save(draw_picture(channels=1), "JPEG", restart_marker_blocks=3)}


def find_scan(jpeg: bytes) -> int:
    return find_segment(jpeg, 0xDA)


def set_version(jpeg: bytes, chance: random.Random) -> bytes:
    """Another JFIF version, in a JFIF segment of its own where there is neither that nor Adobe's."""
    if not try_segment(jpeg, 0xE0) and try_segment(jpeg, 0xEE):
        return jpeg
    jpeg = jpeg if try_segment(jpeg, 0xE0) else insert_segment(jpeg, 0xE0, JFIF)
    at = find_segment(jpeg, 0xE0) + 9
    return jpeg[:at] + bytes((chance.choice((0, 2, 3, 255)), chance.randrange(256))) + jpeg[at + 2 :]


def set_transform(jpeg: bytes, chance: random.Random) -> bytes:
    """An Adobe transform that does not exist, for one that says YCbCr."""
    if try_segment(jpeg, 0xEE):
        return jpeg  # Pillow's CMYK: an unknown transform would be another picture
    if start := try_segment(jpeg, 0xE0):
        jpeg = jpeg[:start] + jpeg[start + 18 :]
    transform = bytes((chance.choice((2, 3, 255)),))
    return insert_segment(jpeg, 0xEE, b"Adobe\0\x64\0\0\0\0" + transform)


def try_segment(jpeg: bytes, marker: int) -> int:
    """Where a segment of the header stands; 0 without one."""
    at = 2
    while jpeg[at + 1] not in (marker, 0xDA):
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return at if jpeg[at + 1] == marker else 0


def set_scan_parameters(jpeg: bytes, chance: random.Random) -> bytes:
    if not try_segment(jpeg, 0xC0):
        return jpeg
    other = chance.choice((b"\0\0\0", b"\0\x40\0", b"\1\x3f\1", b"\0\xff\xff"))
    for scan in reversed([found.start() for found in re.finditer(rb"\xff\xda", jpeg)]):
        at = scan + 2 + jpeg[scan + 3]
        jpeg = jpeg[: at - 3] + other + jpeg[at:]
    return jpeg


def put_strays_in_header(jpeg: bytes, chance: random.Random) -> bytes:
    """A few equal bytes before a segment of the header."""
    at, places = 2, []
    while jpeg[at + 1] != 0xDA:
        places.append(at)
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    at = chance.choice((*places, at))
    return jpeg[:at] + bytes((chance.choice((0, 0, 0x20)),)) * chance.choice((1, 2, 3, 40)) + jpeg[at:]


def put_strays_before_end(jpeg: bytes, chance: random.Random) -> bytes:
    fill = chance.choice((b"", draw_fill(jpeg[:-2], chance)))
    return jpeg[:-2] + fill + b"\xff" * chance.choice((0, 1, 40)) + END


def put_strays_before_restarts(jpeg: bytes, chance: random.Random) -> bytes:
    scan = find_scan(jpeg)
    pieces = re.split(rb"(\xff[\xd0-\xd7])", jpeg[scan:])
    chosen = chance.sample(range(0, len(pieces) - 1, 2), chance.randint(0, len(pieces) // 2))
    for index in chosen:
        pieces[index] += bytes(chance.choice((1, 3, 10, 30)))
    return jpeg[:scan] + b"".join(pieces)


def put_segment_behind(jpeg: bytes, chance: random.Random) -> bytes:
    marker, body = chance.choice((0xFE, 0xE5, 0xED)), chance.randbytes(chance.randrange(40))
    return jpeg[:-2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + END


def put_fill_bytes(jpeg: bytes, chance: random.Random) -> bytes:
    at = chance.choice((find_scan(jpeg), 2))
    return jpeg[:at] + b"\xff" * chance.choice((1, 2, 50)) + jpeg[at:]


def put_bad_profile(jpeg: bytes, chance: random.Random) -> bytes:
    return insert_segment(jpeg, 0xE2, b"ICC_PROFILE\0" + chance.choice((b"\2\1x", b"\1\2x", b"\0\0", b"")))


def lose_end(jpeg: bytes, chance: random.Random) -> bytes:
    return jpeg[:-2] + draw_fill(jpeg[:-2], chance)


def put_another_behind(jpeg: bytes, chance: random.Random) -> bytes:
    return jpeg[:-2] + save(draw_picture(9, 9), "JPEG")


def draw_fill(coded: bytes, chance: random.Random) -> bytes:
    """What may follow coded data. In a picture of colors, zeros cannot be told from a zero at their end."""
    zeros = bytes(chance.choice((1, 3, 8, 40, 5000)))
    fills = (zeros, zeros, TRAILER, b"\0\0\1\x0a" + b"trailer" * 9, b" " * 30)
    return chance.choice(fills if coded[-1] or coded.endswith(b"\xff\0") else fills[is_drawn(coded) * 4 :])


def is_drawn(coded: bytes) -> bool:
    return any(coded == jpeg[:-2] for jpeg in draw_jpegs().values())


# In an order in which they can follow one another; of those at the end and of the last two only one can be.
MARKERS = (set_version, set_transform, set_scan_parameters, put_bad_profile, put_strays_before_restarts)
ENDS = (put_strays_before_end, put_segment_behind, lose_end)
STARTS = (put_fill_bytes, put_strays_in_header)
CHANGES = (*MARKERS, *ENDS, *STARTS, put_another_behind)


def read_status(data: bytes, recipe: PixelRecipe = WHOLE) -> str:
    try:
        read_pixels(data, recipe)
    except ImageError as error:
        return error.status
    return "ok"


def check_equal(changed: bytes, clean: bytes) -> None:
    for recipe in (WHOLE, SMALL):
        np.testing.assert_array_equal(read_pixels(changed, recipe), read_pixels(clean, recipe))


@settings(max_examples=150)
@given(st.data(), st.randoms(use_true_random=False))
def test_harmless_markers_leave_a_jpeg_as_it_is(data, chance):
    clean = draw_jpegs()[data.draw(st.sampled_from(sorted(draw_jpegs())))]
    several = data.draw(st.sets(st.sampled_from(MARKERS)))
    one_each = [data.draw(st.sampled_from((None, *group))) for group in (ENDS, STARTS)]
    changed = clean
    for change in (*sorted(several, key=MARKERS.index), *filter(None, one_each)):
        changed = change(changed, chance)
    check_equal(changed, clean)


def passes_by_mending(data: bytes) -> bool:
    """Tell whether a file is read, and strict decoding alone refuses it."""
    if read_status(data) != "ok":
        return False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wetread.runtime.images.formats.jpeg.is_harmless", lambda _: False)
        return read_status(data) != "ok"


@pytest.mark.parametrize("name", sorted(draw_jpegs()))
@pytest.mark.parametrize(
    "fill", [bytes(3000), b" " * 64, TRAILER, TRAILER * 40, b"\0\0\1\x0a" + b"trailer" * 9, b"\xff" * 9]
)
def test_a_cut_jpeg_with_fill_behind_it_is_found(name, fill):
    """The decoder takes as much fill for coded data as the picture lacks."""
    whole = draw_jpegs()[name]
    cuts = [*range(find_scan(whole) + 14, len(whole) - 99, 23), *range(len(whole) - 70, len(whole) - 2)]
    for cut in cuts:
        for end in (b"", END):
            if passes_by_mending(whole[:cut] + fill + end):
                check_equal(whole[:cut] + fill + end, whole)


def damage(jpeg: bytes, chance: random.Random) -> bytes:
    """Cut or damage coded data: so that bytes are missing, others, too many, or out of place."""
    scan, size = jpeg.index(b"\xff\xda"), len(jpeg) - 2
    scan += 2 + jpeg[scan + 3]
    start, end = sorted(chance.randrange(scan, size) for _ in range(2))
    near, noise = size - chance.randrange(1, 60), chance.randbytes(chance.choice((9, 100, 3000)))
    flipped = bytearray(jpeg)
    for _ in range(chance.choice((1, 2, 8))):
        flipped[chance.randrange(scan, size)] ^= 1 << chance.randrange(8)
    tail = chance.choice((b"", END, bytes(20), bytes(20) + END, TRAILER, TRAILER + END, b"error " * 9, noise))
    return chance.choice((
        jpeg[:start] + tail, jpeg[:near] + tail, jpeg[:start] + jpeg[end:], jpeg[:end] + jpeg[start:],
        bytes(flipped), jpeg[:start] + bytes(end - start) + jpeg[end:], jpeg[:near] + jpeg[near + 1 :],
        jpeg[:start] + noise + jpeg[end:], jpeg[:near] + bytes(size - near) + chance.choice((b"", END)),
    ))  # fmt: skip


def check_damage(files: list[bytes], count: int) -> None:
    """Nothing may pass that strict decoding alone refuses, unless it is the whole picture.

    So it is where what is cut off, or overwritten, is what stands there: zeros for zeros.
    """
    passed = 0
    for number in range(count):
        chance = random.Random(number)
        clean = chance.choice(files)
        damaged = damage(clean, chance)
        if passes_by_mending(damaged):
            check_equal(damaged, clean)
            passed += 1
    assert passed <= count // 200


def test_damaged_drawn_jpegs_do_not_pass_for_whole():
    check_damage(list(draw_jpegs().values()), 600)


def read_xrays(folder: Path, count: int) -> list[bytes]:
    files = sorted((folder / "chest-xray-224").rglob("*.jp*g"))
    return [file.read_bytes() for file in files[:: max(len(files) // count, 1)][:count]]


def check_changes(files: list[bytes]) -> None:
    for number, clean in enumerate(files):
        for change in CHANGES:
            check_equal(change(clean, random.Random(number)), clean)


def test_harmless_markers_leave_xrays_as_they_are(xray_data):
    check_changes(read_xrays(xray_data, 12))


@pytest.mark.long
def test_harmless_markers_leave_five_hundred_xrays_as_they_are(xray_data):
    check_changes(read_xrays(xray_data, 500))


@pytest.mark.long
def test_two_thousand_damaged_xrays_do_not_pass_for_whole(xray_data):
    check_damage(read_xrays(xray_data, 200), 2000)


def test_a_thumbnail_behind_strays_is_not_the_picture():
    """A wrong length of the segment that holds it leads into it."""
    inner = save(draw_picture(12, 16), "JPEG")
    at = find_segment(inner, 0xDB)
    stray = b"\xff\xd8\xff\xe1\0\x0a" + b"Exif\0\0\0\0" + b"\0\0\0" + inner[at:]
    assert read_status(stray + draw_jpegs()["jpeg"][2:]) == "malformed"


def test_damage_and_cuts_have_words_of_their_own():
    jpeg = draw_jpegs()["jpeg"]
    restarts = draw_jpegs()["jpeg-restarts"]
    swapped = restarts.replace(b"\xff\xd1", b"\xff\xd2", 1)
    assert read_status(swapped) == "malformed"
    assert read_status(restarts[: restarts.index(b"\xff\xd1")] + END) == "truncated"
    assert read_status(restarts[: restarts.index(b"\xff\xd1")] + bytes(30)) == "truncated"
    assert read_status(jpeg[:-2] + bytes(range(1, 40)) + END) == "malformed"
    assert read_status(jpeg[:-2]) == "truncated"
    flipped = jpeg.replace(b"\0\x3f\0", b"\0\x3e\0", 1)
    assert read_status(flipped) == "malformed"
    assert read_status(jpeg[:2] + b"\1\2\3" + jpeg[2:]) == "malformed"


@pytest.mark.parametrize(
    ("coded", "rest", "fill"),
    [
        (b"\x12", bytes(4), True),
        (b"\x12", bytes(1), True),
        (b"\x12", b"AAA", False),
        (b"\x12", b"AAAA", True),
        (b"\x12\0", bytes(9), False),
        (b"\xff\0", bytes(9), True),
        (b"\x12", TRAILER, True),
        (b"\x12\0", TRAILER[1:], False),
        (b"\x12", b"<html>502 Bad Gateway</html>", False),
        (b"\x12", b"\0\0" + bytes(range(128, 200)), False),
        (b"", bytes(9), False),
    ],
)
def test_fill_is_told_from_coded_data(coded, rest, fill):
    assert is_fill(coded, rest) is fill


def test_the_proof_has_a_price(monkeypatch):
    whole = draw_jpegs()["jpeg"]
    monkeypatch.setattr("wetread.runtime.images.formats.jpeg_repair._BUDGET", 0)
    monkeypatch.setattr("wetread.runtime.images.formats.jpeg_repair._BUDGET_PER_BYTE", 1)
    assert read_status(whole[:-2] + bytes(40) + END) == "malformed"


def test_restarts_without_number_are_not_taken_apart(monkeypatch):
    whole = draw_jpegs()["jpeg-restarts"]
    changed = whole[:-2] + bytes(40) + END
    check_equal(changed, whole)
    monkeypatch.setattr("wetread.runtime.images.formats.jpeg_repair._MOST_RESTARTS", 3)
    assert read_status(changed) == "malformed"


@pytest.mark.skipif(shutil.which("djpeg") is None, reason="no djpeg (libjpeg-turbo-progs)")
def test_djpeg_sees_the_same_picture():
    clean = draw_jpegs()["jpeg"]
    decode = ["djpeg", "-pnm"]
    expected = subprocess.run(decode, input=clean, capture_output=True, check=True).stdout
    for number, change in enumerate(CHANGES):
        changed = change(clean, random.Random(number))
        found = subprocess.run(decode, input=changed, capture_output=True, check=False).stdout
        assert found == expected or change in (put_another_behind,), change.__name__
        check_equal(changed, clean)


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no case files: {CASES}")
def test_every_case_of_harmless_markers_is_read():
    files = {path.name: path.read_bytes() for path in sorted(CASES.glob("*.jpg"))}
    assert {name: read_status(data) for name, data in files.items()} == dict.fromkeys(files, "ok")
    for name, data in files.items():
        if name.startswith("xray_"):
            check_equal(data, files["xray_whole.jpg"])
        assert read_status(data[: len(data) // 2]) == "truncated", name
        assert read_status(data[: len(data) // 2] + END) == "truncated", name
