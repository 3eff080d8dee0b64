"""An animation of one frame is one picture; one of several, or of a part of its canvas, is not."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.runtime.corpus import chunk, draw_picture, make_png, save
from wetread.errors import ImageError
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

WHOLE = PixelRecipe(height=37, width=53, color="rgb", scaled_decoding=0)
CASES = Path(__file__).parents[4] / "shared" / "cases" / "png_webp_one_frame"
RGB = draw_picture()
RGBA = np.dstack([RGB, draw_picture(channels=1)[::-1]])


def read_status(data: bytes) -> str:
    try:
        read_pixels(data, WHOLE)
    except ImageError as error:
        return error.status
    return "ok"


def control(
    sides: tuple[int, int] = (53, 37), place: tuple[int, int] = (0, 0), last: bytes = b"\0\0"
) -> tuple[bytes, bytes]:
    """An fcTL chunk; `last`: how the frame is disposed of and blended."""
    return b"fcTL", struct.pack(">IIIII", 0, *sides, *place) + struct.pack(">HH", 1, 10) + last


def count_frames(number: int) -> tuple[bytes, bytes]:
    return b"acTL", struct.pack(">II", number, 0)


def draw_animated_png(*chunks: tuple[bytes, bytes], behind: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    png = make_png(RGBA, 8, 6, *chunks)
    return png[:-12] + b"".join(chunk(*one) for one in behind) + png[-12:]


@pytest.mark.parametrize("last", [b"\0\0", b"\1\0", b"\2\1"])
def test_a_png_of_one_frame_is_read(last):
    one = draw_animated_png(count_frames(1), control(last=last))
    np.testing.assert_array_equal(read_pixels(one, WHOLE), read_pixels(make_png(RGBA, 8, 6), WHOLE))


def test_a_png_of_more_pictures_or_a_lying_one_is_not():
    later = (control(), (b"fdAT", b"\0\0\0\1" + b"x"))
    found = {
        "two": draw_animated_png(count_frames(2), control()),
        "a second": draw_animated_png(count_frames(1), control(), behind=later),
        "default apart": draw_animated_png(count_frames(1), behind=later),
        "smaller": draw_animated_png(count_frames(1), control((52, 37))),
        "moved": draw_animated_png(count_frames(1), control(place=(1, 0))),
        "no count": draw_animated_png(control(), behind=later),
    }
    assert {name: read_status(data) for name, data in found.items()} == {
        "two": "unsupported",
        "a second": "unsupported",
        "default apart": "unsupported",
        "smaller": "malformed",
        "moved": "malformed",
        "no count": "ok",
    }


def test_pillow_saves_one_frame_and_reads_it_alike():
    for kind in ("PNG", "WEBP"):
        for picture in (RGB, RGBA):
            options = {"save_all": True, "append_images": []} | ({} if kind == "PNG" else {"lossless": True})
            file = save(picture, kind, **options)
            with Image.open(io.BytesIO(file)) as image:
                assert getattr(image, "n_frames", 1) == 1
            np.testing.assert_array_equal(read_pixels(file, WHOLE), read_pixels(save(picture, "PNG"), WHOLE))


def riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def draw_animated_webp(
    still: bytes,
    *,
    frames: int = 1,
    canvas: tuple[int, int] = (53, 37),
    place: tuple[int, int] = (0, 0),
    last: int = 0,
    flags: int = 0x12,
) -> bytes:
    """An animation of the chunks of a still WebP; `last`: how a frame is disposed of and blended."""
    inner = still[12:]
    if inner.startswith(b"VP8X"):
        inner = inner[18:]
    three = [number.to_bytes(3, "little") for number in (*place, 52, 36, 100)]
    frame = riff(b"ANMF", b"".join(three) + bytes((last,)) + inner)
    sides = b"".join((side - 1).to_bytes(3, "little") for side in canvas)
    head = riff(b"VP8X", bytes((flags, 0, 0, 0)) + sides) + riff(b"ANIM", b"\xff\0\0\xff\0\0")
    return riff(b"RIFF", b"WEBP" + head + frame * frames)


STILLS = {
    "lossy": save(RGB, "WEBP"),
    "lossless": save(RGB, "WEBP", lossless=True),
    "alpha": save(RGBA, "WEBP", exact=True),
    "lossless-alpha": save(RGBA, "WEBP", lossless=True, exact=True),
}


@pytest.mark.parametrize("name", STILLS)
def test_a_webp_of_one_frame_is_read(name):
    expected = read_pixels(STILLS[name], WHOLE)
    for last in range(4):
        one = draw_animated_webp(STILLS[name], last=last)
        np.testing.assert_array_equal(read_pixels(one, WHOLE), expected)
        assert {read_status(one[:cut]) for cut in range(13, len(one), 37)} == {"truncated"}


@pytest.mark.parametrize("name", STILLS)
def test_a_webp_of_more_pictures_or_a_lying_one_is_not(name):
    still = STILLS[name]
    found = [
        draw_animated_webp(still, frames=2),
        draw_animated_webp(still, canvas=(54, 37)),
        draw_animated_webp(still, place=(1, 0)),
        draw_animated_webp(still, frames=0),
    ]
    assert [read_status(data) for data in found] == ["unsupported", "unsupported", "unsupported", "malformed"]


def test_opencv_writes_one_frame_that_is_read_alike():
    animation = cv2.Animation()
    animation.frames, animation.durations = [cv2.cvtColor(RGBA, cv2.COLOR_RGBA2BGRA)], [100]
    done, file = cv2.imencodeanimation(".png", animation)
    assert done
    np.testing.assert_array_equal(read_pixels(file.tobytes(), WHOLE), read_pixels(save(RGBA, "PNG"), WHOLE))


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no case files: {CASES}")
def test_every_case_of_one_frame_is_read():
    for path in sorted(CASES.iterdir()):
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB"))
        recipe = PixelRecipe(height=expected.shape[0], width=expected.shape[1], color="rgb")
        np.testing.assert_array_equal(read_pixels(path.read_bytes(), recipe), expected)
