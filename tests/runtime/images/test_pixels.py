"""The right pixels, against Pillow and against the written rule."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.runtime.corpus import (
    draw_corpus,
    draw_noise,
    draw_picture,
    insert_segment,
    join_png,
    make_bmp,
    make_exif,
    make_plain_tiff,
    make_png,
    make_pnm,
    make_tiff,
    pack_rows,
    save,
    tag_tiff,
)
from wetread.errors import ImageError
from wetread.runtime.images.formats import JpegHeader, read_header
from wetread.runtime.images.pixels import choose_dct_scale, equalize, inner_size, read_pixels, resize
from wetread.runtime.images.recipe import PixelRecipe

CORPUS = draw_corpus()
# Pillow refuses a broken color profile, and does not know big-endian 16-bit gray whose white is zero.
PILLOW_READS = [name for name in CORPUS if name not in ("png-exif", "tiff-16")]
# Pillow takes the high byte of 16-bit colors; all else must be equal to it.
TOLERANCES = {"png-rgb-16": 1}


def read_whole(data: bytes, *, color: str = "rgb", orientation: str = "exif") -> np.ndarray:
    """All pixels of a file, at full size."""
    header = read_header(data)
    sides = (header.height, header.width)
    if orientation == "exif" and header.orientation >= 5:
        sides = sides[::-1]
    recipe = PixelRecipe(
        height=sides[0], width=sides[1], color=color, orientation=orientation, scaled_decoding=0
    )
    return read_pixels(data, recipe)


def read_by_pillow(data: bytes, *, color: str) -> np.ndarray:
    """The same by Pillow: upright, over black, gray by Rec. 601 (of a JPEG: as stored)."""
    image = Image.open(io.BytesIO(data))
    if image.format == "JPEG" and color == "gray" and image.mode == "RGB":
        image.draft("L", image.size)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        image = Image.fromarray(expect_eight_bits(deep))
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        samples = np.asarray(image.convert("RGBA")).astype(np.int64)
        image = Image.fromarray(expect_over_black(samples[..., :3], samples[..., 3:]))
    pixels = np.asarray(image.convert("RGB" if color == "rgb" else "L"))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def expect_eight_bits(samples: np.ndarray) -> np.ndarray:
    """The depth rule, in words: the fewest of 8, 10, 12, 14, 16 bits that hold the largest sample."""
    top = min(2**bits - 1 for bits in (8, 10, 12, 14, 16) if samples.max() < 2**bits)
    return np.floor(samples.astype(np.int64) * 255 / top + 0.5).astype(np.uint8)


def expect_over_black(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.floor(color.astype(np.int64) * alpha.astype(np.int64) / 255 + 0.5).astype(np.uint8)


def expect_gray(rgb: np.ndarray) -> np.ndarray:
    weighted = rgb.astype(np.int64) @ np.array([19595, 38470, 7471])
    return ((weighted + 32768) >> 16).astype(np.uint8)[..., None]


@pytest.mark.parametrize("color", ["gray", "rgb"])
@pytest.mark.parametrize("name", PILLOW_READS)
def test_pixels_are_pillows(name, color):
    found = read_whole(CORPUS[name], color=color).astype(int)
    expected = read_by_pillow(CORPUS[name], color=color)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCES.get(name, 0)


@pytest.mark.parametrize(
    "name", ["png-rgb", "tiff-rgb", "tiff-lzw", "tiff-deflate", "webp-lossless", "bmp", "ppm"]
)
def test_a_lossless_file_gives_back_what_was_drawn(name):
    rgb = draw_picture()
    np.testing.assert_array_equal(read_whole(CORPUS[name]), rgb)
    np.testing.assert_array_equal(read_whole(CORPUS[name], color="gray"), expect_gray(rgb))


def turn(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores that is told to show `upright` by an EXIF orientation (TIFF 6.0, page 36)."""
    stored = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    return np.ascontiguousarray(stored)


def write_turned(kind: str, stored: np.ndarray, orientation: int) -> bytes:
    exif = make_exif(orientation)
    if kind == "jpeg":
        return insert_segment(save(stored, "JPEG", quality=95), 0xE1, b"Exif\0\0" + exif)
    if kind == "png":
        return make_png(stored, 8, 2, (b"eXIf", exif))
    if kind == "webp":
        return save(stored, "WEBP", lossless=True, exif=b"Exif\0\0" + exif)
    more = {274: (orientation,)}
    if kind == "tiff":
        return make_plain_tiff(stored, 8, 2, more=more)
    return make_plain_tiff(stored.astype(np.uint16) * 257, 16, 2, order=">", more=more)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "tiff-16"])
def test_every_orientation_is_turned_upright_once(kind, orientation):
    upright = draw_picture(40, 64)
    data = write_turned(kind, turn(upright, orientation), orientation)
    assert read_header(data).orientation == orientation
    tolerance = 1.5 if kind == "jpeg" else 0  # the mean; another orientation is 20 and more away
    assert np.abs(read_whole(data).astype(int) - upright).mean() <= tolerance
    stored = read_whole(data, orientation="ignore").astype(int)
    assert np.abs(stored - turn(upright, orientation)).mean() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize_mode", ["stretch", "fit", "crop"])
def test_turning_before_or_after_scaling_is_the_same(resize_mode, orientation):
    upright = draw_noise(67, 90, 3)
    data = write_turned("png", turn(upright, orientation), orientation)
    for height, width in ((16, 16), (31, 12), (80, 77), (90, 50)):
        recipe = PixelRecipe(height=height, width=width, color="rgb", resize=resize_mode)
        np.testing.assert_array_equal(read_pixels(data, recipe), resize(upright, recipe))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_decoded_at_the_scale_of_its_upright_sides(orientation):
    upright = draw_picture(48, 640, channels=1)
    recipe = PixelRecipe(height=16, width=64)
    data = write_turned("jpeg", turn(upright, orientation), orientation)
    assert choose_dct_scale(read_header(data), recipe) == 4
    plain = read_pixels(save(upright, "JPEG", quality=95), recipe).astype(int)
    assert np.abs(read_pixels(data, recipe) - plain).max() <= 2


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("interlace", [False, True])
def test_a_png_of_few_bits_is_stretched_to_255(depth, interlace):
    samples = draw_noise(11, 13, 1, top=2**depth - 1)
    data = make_png(samples, depth, 0, interlace=interlace)
    np.testing.assert_array_equal(read_whole(data, color="gray"), samples * (255 // (2**depth - 1)))


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize(
    ("depth", "color", "channels"), [(8, 4, 2), (16, 4, 2), (8, 6, 4), (16, 6, 4), (16, 2, 3)]
)
def test_a_png_with_alpha_stands_over_black(depth, color, channels, interlace):
    samples = draw_noise(12, 15, channels, top=2**depth - 1)
    data = make_png(samples, depth, color, interlace=interlace)
    alpha = channels in (2, 4)
    shade = expect_eight_bits(samples[..., :-1] if alpha else samples)
    if alpha:
        shade = expect_over_black(shade, expect_eight_bits(samples[..., -1:]))
    np.testing.assert_array_equal(read_whole(data), np.broadcast_to(shade, (12, 15, 3)))
    gray = shade if channels == 2 else expect_gray(shade)
    np.testing.assert_array_equal(read_whole(data, color="gray"), gray)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("interlace", [False, True])
def test_a_png_palette_is_looked_up_over_black(depth, interlace):
    table, count = draw_noise(16, 1, 3)[:, 0], min(2**depth, 16)
    indices = draw_noise(9, 17, 1, top=count - 1)
    alpha = np.array([0, 100], np.uint8)
    chunks = (b"PLTE", table[:count].tobytes()), (b"tRNS", alpha.tobytes())
    composited = table.copy()
    composited[:2] = expect_over_black(table[:2], alpha[:, None])
    opaque = make_png(indices, depth, 3, chunks[0], interlace=interlace)
    np.testing.assert_array_equal(read_whole(opaque), table[indices[..., 0]])
    clear = make_png(indices, depth, 3, *chunks, interlace=interlace)
    np.testing.assert_array_equal(read_whole(clear), composited[indices[..., 0]])


def test_the_transparent_color_of_a_png_is_black():
    gray = draw_picture(channels=1)
    clear = make_png(gray, 8, 0, (b"tRNS", b"\0" + bytes((gray[5, 5, 0],))))
    np.testing.assert_array_equal(read_whole(clear, color="gray"), np.where(gray == gray[5, 5], 0, gray))
    few = gray >> 6
    clear = make_png(few, 2, 0, (b"tRNS", b"\0\2"))
    np.testing.assert_array_equal(read_whole(clear, color="gray"), np.where(few == 2, 0, few * 85))
    rgb = draw_noise(9, 9, 3, top=3) * 85
    clear = make_png(rgb, 8, 2, (b"tRNS", bytes((0, 85, 0, 170, 0, 255))))
    hidden = (rgb == (85, 170, 255)).all(axis=2, keepdims=True)
    assert hidden.any()
    np.testing.assert_array_equal(read_whole(clear), np.where(hidden, 0, rgb))
    deep = draw_picture(channels=1, top=4095)
    clear = make_png(deep, 16, 0, (b"tRNS", int(deep[5, 5, 0]).to_bytes(2, "big")))
    expected = expect_eight_bits(np.where(deep == deep[5, 5], 0, deep))
    np.testing.assert_array_equal(read_whole(clear, color="gray"), expected)


def test_a_large_png_is_read_as_a_small_one(monkeypatch):
    """Past a size the data are not kept and wrapped again but read as they are."""
    wanted = {name: read_whole(CORPUS[name]) for name in CORPUS if name.startswith("png")}
    monkeypatch.setattr("wetread.runtime.images.formats.png._KEEP_BYTES", 0)
    monkeypatch.setattr("wetread.runtime.images.formats.png._PIECE_BYTES", 100)
    for name, expected in wanted.items():
        np.testing.assert_array_equal(read_whole(CORPUS[name]), expected)


@pytest.mark.parametrize("top", [1, 255, 256, 1023, 1024, 4095, 4096, 16383, 16384, 65535])
def test_sixteen_bits_are_scaled_by_the_bits_in_use(top):
    samples = draw_noise(13, 17, 1, top=top).astype(np.uint16)
    expected = expect_eight_bits(samples)
    for data in (make_png(samples, 16, 0), make_plain_tiff(samples, 16, 1), make_pnm(samples, top=65535)):
        np.testing.assert_array_equal(read_whole(data, color="gray"), expected)
    assert top not in (1023, 4095, 16383, 65535) or expected.max() == 255


def test_a_black_deep_image_is_black():
    assert read_whole(make_png(np.zeros((3, 4, 1), np.uint16), 16, 0)).max() == 0


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_tiff_whose_white_is_zero_is_turned_round(depth, order):
    samples = draw_noise(10, 21, 1, top=2 ** min(depth, 12) - 1)
    upright, inverted = (make_plain_tiff(samples, depth, kind, order=order) for kind in (1, 0))
    expected = expect_eight_bits(samples) if depth == 16 else samples * np.uint8(255 // (2**depth - 1))
    np.testing.assert_array_equal(read_whole(upright, color="gray"), expected)
    np.testing.assert_array_equal(read_whole(inverted, color="gray"), 255 - expected)


def test_a_tiff_palette_is_looked_up():
    table = draw_noise(16, 1, 3)[:, 0]
    indices = draw_noise(7, 9, 1, top=15)
    for factor in (257, 1):
        wide = tuple(int(value) * factor for value in table.T.ravel())
        data = make_plain_tiff(indices, 4, 3, more={320: wide})
        np.testing.assert_array_equal(read_whole(data), table[indices[..., 0]])


@pytest.mark.parametrize(("extra", "multiplied"), [(2, True), (1, False), (0, False)])
def test_only_separate_alpha_of_a_tiff_is_multiplied(extra, multiplied):
    for depth, channels in itertools.product((8, 16), (2, 4)):
        samples = draw_noise(8, 9, channels, top=2**depth - 1)
        data = make_plain_tiff(samples, depth, 1 if channels == 2 else 2, more={338: (extra,)})
        color, alpha = (expect_eight_bits(part) for part in (samples[..., :-1], samples[..., -1:]))
        expected = expect_over_black(color, alpha) if multiplied else color
        np.testing.assert_array_equal(read_whole(data), np.broadcast_to(expected, (8, 9, 3)))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_deflate", "tiff_adobe_deflate"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_every_lossless_tiff_compression_is_unpacked(compression, predictor):
    if predictor == 2 and compression in ("raw", "packbits"):
        predictor = 1
    options = {"compression": compression, "tiffinfo": {317: predictor} if predictor == 2 else {}}
    gray, deep = draw_picture(37, 53, channels=1), draw_picture(41, 29, channels=1, top=65535)
    for samples, color in ((gray, "gray"), (draw_picture(37, 51), "rgb"), (deep, "gray")):
        data = save(samples, "TIFF", **options)
        assert read_header(data).get(317) == predictor
        np.testing.assert_array_equal(
            read_whole(data, color=color), expect_eight_bits(samples) if samples is deep else samples
        )


def split_tiles(samples: np.ndarray, side: int) -> list[bytes]:
    """Tiles of side x side, padded with 7, from left to right and down."""
    height, width = samples.shape[:2]
    padded = np.pad(samples, ((0, -height % side), (0, -width % side), (0, 0)), constant_values=7)
    return [
        padded[top : top + side, left : left + side].tobytes()
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_tiles_strips_and_planes_of_a_tiff_are_put_together(channels, depth):
    samples = draw_noise(37, 53, channels, top=2**depth - 1)
    tags = tag_tiff(samples, depth, 1 if channels == 1 else 2)
    strips = [samples[top : top + 10].tobytes() for top in range(0, 37, 10)]
    tiles = [zlib.compress(tile) for tile in split_tiles(samples, 16)]
    planes = [np.ascontiguousarray(samples[..., k : k + 1]) for k in range(channels)]
    plane_tiles = [tile for plane in planes for tile in split_tiles(plane, 32)]
    sides = {322: (16,), 323: (16,), 259: (8,)}
    files = (
        make_tiff(strips, tags | {278: (10,)}),
        make_tiff(tiles, tags | sides),
        make_tiff([plane.tobytes() for plane in planes], tags | {284: (2,)}),
        make_tiff(plane_tiles, tags | {284: (2,), 322: (32,), 323: (32,)}),
    )
    expected = np.broadcast_to(expect_eight_bits(samples), (37, 53, 3))
    for file in files:
        np.testing.assert_array_equal(read_whole(file), expected)


@pytest.mark.parametrize("downward", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_bmp_palette_is_looked_up(bits, downward):
    table = draw_noise(2**bits, 1, 3)[:, 0]
    indices = draw_noise(7, 13, 1, top=2**bits - 1)
    expected = table[indices[..., 0]]
    data = make_bmp(indices, bits, palette=table, downward=downward)
    np.testing.assert_array_equal(read_whole(data), expected)
    if not downward:
        np.testing.assert_array_equal(read_whole(make_bmp(indices, bits, palette=table, core=True)), expected)


def test_bmp_masks_say_which_byte_is_which_color_and_alpha():
    stored = draw_noise(6, 7, 4)
    plain, swapped = make_bmp(stored, 32), make_bmp(stored, 32, masks=(0xFF, 0xFF00, 0xFF0000))
    np.testing.assert_array_equal(read_whole(plain), stored[..., 2::-1])
    np.testing.assert_array_equal(read_whole(swapped), stored[..., :3])
    alpha = make_bmp(stored, 32, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000))
    np.testing.assert_array_equal(read_whole(alpha), expect_over_black(stored[..., 2::-1], stored[..., 3:]))


@pytest.mark.parametrize("top", [1, 15, 100, 255, 1000, 4095, 65534])
def test_a_pnm_is_scaled_by_the_top_that_it_states(top):
    for channels in (1, 3):
        samples = draw_noise(5, 8, channels, top=top) * 1
        samples.flat[1] = 0  # the largest sample need not occur
        expected = np.floor(samples.astype(np.int64) * 255 / top + 0.5).astype(np.uint8)
        data = make_pnm(samples, top=top, comment=b"# a comment\n")
        np.testing.assert_array_equal(read_whole(data, color="gray" if channels == 1 else "rgb"), expected)


@pytest.mark.parametrize("adobe", [False, True])
def test_inks_are_as_adobe_stores_them_with_its_marker_or_without(adobe):
    inks = draw_picture(32, 40, channels=4)
    data = save(Image.fromarray(inks, "CMYK"), "JPEG", quality=100, subsampling=0)
    if not adobe:
        at = data.index(b"Adobe") - 4
        data = data[:at] + data[at + 16 :]
    np.testing.assert_array_equal(read_whole(data), read_by_pillow(data, color="rgb"))


def test_ycck_is_read():
    """The inks of a CMYK file as Y, Cb, Cr and K, as its Adobe marker then says."""
    data = bytearray(CORPUS["jpeg-cmyk"])
    data[data.index(b"Adobe") + 11] = 2
    found, plain = read_whole(bytes(data)), read_whole(CORPUS["jpeg-cmyk"])
    np.testing.assert_array_equal(found, read_by_pillow(bytes(data), color="rgb"))
    assert (found != plain).any()


SIDES = [(8, 8), (9, 8), (17, 23), (64, 64), (100, 8), (8, 1000), (5, 1000), (255, 257), (333, 1), (440, 361)]


@pytest.mark.parametrize("eighths", [1, 2, 4, 8])
@pytest.mark.parametrize("sides", SIDES)
def test_a_scaled_jpeg_is_pillows_at_that_very_scale(sides, eighths):
    """simplejpeg is asked for a size and picks the scale itself: it must pick ours, also for odd sides."""
    data = save(draw_noise(*sides, 3), "JPEG", quality=60)
    header = read_header(data)
    assert isinstance(header, JpegHeader)
    for gray in (True, False):
        found = header.decode_scaled(data, eighths=eighths, gray=gray).color
        image = Image.open(io.BytesIO(data))
        scale = 8 // eighths
        image.draft("L" if gray else "RGB", (max(sides[1] // scale, 1), max(sides[0] // scale, 1)))
        if max(sides[1] // scale, 1) * scale > sides[1] or max(sides[0] // scale, 1) * scale > sides[0]:
            assert found.shape[:2] == tuple(-(-side * eighths // 8) for side in sides)
            continue  # Pillow does not go below one pixel
        expected = np.asarray(image)
        np.testing.assert_array_equal(found, expected.reshape(found.shape))


@pytest.mark.parametrize(
    ("sides", "options", "eighths"),
    [
        ((224, 224), {}, 4),
        ((191, 2000), {}, 8),
        ((192, 2000), {}, 4),
        ((383, 2000), {}, 4),
        ((384, 384), {}, 2),
        ((767, 768), {}, 2),
        ((768, 768), {}, 1),
        ((5380, 6616), {}, 1),
        ((5380, 6616), {"scaled_decoding": 0}, 8),
        ((64, 64), {"scaled_decoding": 0.125}, 1),
        ((7, 7), {"height": 1, "width": 1}, 8),
        ((7, 8), {"height": 1, "width": 1, "scaled_decoding": 0.5}, 1),
        ((768, 1536), {"resize": "crop"}, 1),
        ((768, 1536), {"resize": "fit"}, 1),
        ((384, 3072), {"resize": "fit"}, 1),
        ((384, 3072), {"resize": "crop"}, 2),
    ],
)
def test_the_scale_is_the_smallest_that_leaves_pixels_to_average(sides, options, eighths):
    header = JpegHeader("jpeg", *sides)
    assert choose_dct_scale(header, PixelRecipe(**options)) == eighths


@pytest.mark.parametrize("sides", [(1000, 777), (1003, 1001), (779, 1201)])
def test_scaled_decoding_keeps_the_picture_in_place(sides):
    """Also where the sides are no multiple of 8, and the last decoded pixel stands for less than the rest."""
    slope = np.add.outer(np.linspace(0, 100, sides[0]), np.linspace(0, 150, sides[1]))
    data = save(np.rint(slope).astype(np.uint8)[..., None], "JPEG", quality=100)
    scaled, full = (read_pixels(data, PixelRecipe(scaled_decoding=ratio)).astype(int) for ratio in (1.5, 0))
    assert choose_dct_scale(read_header(data), PixelRecipe()) == 1
    assert np.abs(scaled - full).max() <= 1
    assert np.abs(scaled - full).mean() < 0.3


def test_real_xrays_at_full_size_look_alike_scaled_and_not(xray_data):
    for path in sorted((xray_data / "chest-xray-full").iterdir()):
        data = path.read_bytes()
        scaled, full = (
            read_pixels(data, PixelRecipe(scaled_decoding=ratio)).astype(int) for ratio in (1.5, 0)
        )
        assert np.abs(scaled - full).mean() < 0.25
        assert np.abs(scaled - full).max() <= 8


@pytest.mark.parametrize(
    ("sides", "mode", "size"),
    [
        ((100, 200), "stretch", (64, 64)),
        ((100, 200), "fit", (32, 64)),
        ((200, 100), "fit", (64, 32)),
        ((100, 200), "crop", (64, 128)),
        ((200, 100), "crop", (128, 64)),
        ((64, 64), "fit", (64, 64)),
        ((3, 1000), "fit", (1, 64)),
        ((1000, 3), "crop", (21333, 64)),
        ((63, 64), "fit", (63, 64)),
    ],
)
def test_the_inner_size_keeps_the_proportions(sides, mode, size):
    assert inner_size(sides, PixelRecipe(resize=mode)) == size


def test_fit_stands_in_the_middle_on_black():
    white = np.full((100, 201, 1), 255, np.uint8)
    found = resize(white, PixelRecipe(height=64, width=64, resize="fit"))[..., 0]
    expected = np.zeros((64, 64), np.uint8)
    expected[16:48] = 255
    np.testing.assert_array_equal(found, expected)


def test_crop_keeps_the_middle():
    image = draw_noise(40, 100, 1)
    found = resize(image, PixelRecipe(height=40, width=30, resize="crop"))
    np.testing.assert_array_equal(found, image[:, 35:65])


def test_a_crop_of_a_sliver_costs_no_more_than_its_output():
    """Scaled whole, this picture would have 64 x 64,000,000 pixels."""
    sliver = np.arange(10**6, dtype=np.uint32).astype(np.uint8)[None, :, None]
    found = resize(sliver, PixelRecipe(resize="crop"))
    assert found.shape == (64, 64, 1)


def test_equalize_spreads_the_histogram():
    image = np.array([[10, 10, 10, 10], [20, 20, 30, 40]], np.uint8)[..., None]
    np.testing.assert_array_equal(
        equalize(image)[..., 0], np.array([[0, 0, 0, 0], [128, 128, 191, 255]], np.uint8)
    )
    np.testing.assert_array_equal(equalize(np.full((2, 2, 3), 77, np.uint8)), np.zeros((2, 2, 3), np.uint8))


def test_equalize_leaves_the_bars_of_fit_out():
    image = draw_picture(32, 64, channels=1)
    recipe = PixelRecipe(height=64, width=64, resize="fit", equalize="histogram")
    found = resize(image, recipe)
    np.testing.assert_array_equal(found[16:48], equalize(image))
    assert found[:16].max() == found[48:].max() == 0


@pytest.mark.parametrize("name", CORPUS)
def test_an_array_is_the_callers_own(name):
    found = read_whole(CORPUS[name])
    assert found.flags.c_contiguous and found.flags.writeable and found.dtype == np.uint8


def test_resize_does_not_hand_back_its_argument():
    image = draw_picture(64, 64, channels=1)
    assert not np.shares_memory(resize(image, PixelRecipe()), image)


MEMORY = """
import sys
from tests.memory import read_peak
from tests.runtime.images.test_pixels import draw_flat_png
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe
data = draw_flat_png(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
before = read_peak()
read_pixels(data, PixelRecipe(), max_memory=1 << 40)
print(read_peak() - before, len(data))
"""
# Color type, bits, channels.
FLAT = {
    "gray": (0, 8, 1),
    "palette": (3, 8, 1),
    "gray-16": (0, 16, 1),
    "rgb": (2, 8, 3),
    "rgba-16": (6, 16, 4),
}


def draw_flat_png(height: int, width: int, kind: str) -> bytes:
    """A large PNG of one gray level."""
    color, depth, channels = FLAT[kind]
    row, packer = bytes(1) + bytes((1,)) * (width * channels * depth // 8), zlib.compressobj(1)
    data = b"".join([packer.compress(row) for _ in range(height)]) + packer.flush()
    return join_png((width, height, depth, color, 0), (b"PLTE", bytes(9)), (b"IDAT", data))


def check_memory(height: int, width: int, kind: str) -> None:
    command = [sys.executable, "-c", MEMORY, str(height), str(width), kind]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
    )
    used, size = (int(number) for number in done.stdout.split())
    _, depth, channels = FLAT[kind]
    decoded = height * width * channels * depth // 8
    # OpenCV holds two copies while it decodes a PNG; a palette's colors come to three bytes a pixel.
    assert decoded / 2 < used < (3.3 if kind == "palette" else 2.2) * decoded + size


@pytest.mark.parametrize("kind", ["gray", "rgb"])
def test_a_large_png_costs_little_more_than_its_decoder(kind):
    check_memory(5000, 8000, kind)


@pytest.mark.long
@pytest.mark.parametrize("kind", FLAT)
def test_a_hundred_megapixels_cost_little_more_than_their_decoder(kind):
    check_memory(10_000, 10_000, kind)


def test_nothing_is_printed_by_a_c_library(capfd):
    """libpng and libtiff warn of broken profiles, odd chunks and unknown tags; libjpeg of what it skips."""
    gray = draw_picture(channels=1)
    chunks = (
        (b"iCCP", b"x\0\0junk"),
        (b"sRGB", b"\7"),
        (b"gAMA", bytes(4)),
        (b"tIME", b"junk"),
        (b"zTXt", b"a\0\0z"),
    )
    odd = [make_png(gray, 8, 0, *chunks), make_plain_tiff(gray, 8, 1, more={65000: (1,), 33432: (9,)})]
    odd.append(insert_segment(CORPUS["jpeg"], 0xE2, b"ICC_PROFILE\0junk"))
    broken = [data[: len(data) // 2] for data in CORPUS.values()]
    for data in [*odd, *CORPUS.values(), *broken]:
        try:
            assert read_pixels(data, PixelRecipe()).shape == (64, 64, 1)
        except ImageError as error:
            assert "A fault of wetread" not in str(error)  # which scoring would take for one bad file
            assert error.status == "truncated"
    assert capfd.readouterr() == ("", "")


def test_rows_of_few_bits_are_packed_from_the_left():
    assert pack_rows(np.array([[[1], [0], [1]]], np.uint8), 1) == [b"\xa0"]
