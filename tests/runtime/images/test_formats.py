"""Every status of a file, and every way in which a file can be cut, damaged or lie."""

from __future__ import annotations

import errno
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.runtime.corpus import (
    chunk,
    draw_corpus,
    draw_noise,
    draw_picture,
    find_segment,
    insert_segment,
    join_png,
    make_bmp,
    make_exif,
    make_plain_tiff,
    make_png,
    make_pnm,
    make_tiff,
    save,
    split_scans,
    tag_tiff,
)
from wetread.errors import ImageError
from wetread.runtime.images import limits
from wetread.runtime.images.formats import read_header
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

WHOLE = PixelRecipe(height=37, width=53, color="rgb", scaled_decoding=0, orientation="ignore")
SMALL = PixelRecipe(height=4, width=4)
CORPUS = draw_corpus()
JPEGS = [name for name in CORPUS if name.startswith("jpeg")]
PNGS = [name for name in CORPUS if name.startswith("png")]
OTHERS = [name for name in CORPUS if name not in JPEGS and name not in PNGS]
END_OF_JPEG, END_OF_PNG = b"\xff\xd9", chunk(b"IEND", b"")


def read_status(data: bytes, *, recipe: PixelRecipe = WHOLE, max_memory: int = 1 << 28) -> str:
    try:
        read_pixels(data, recipe, max_memory=max_memory)
    except ImageError as error:
        assert "A fault of wetread" not in str(error)  # which scoring would take for one bad file
        return error.status
    return "ok"


def find_message(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read_pixels(data, WHOLE)
    return f"{caught.value.status}: {caught.value}"


def replace(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize("name", CORPUS)
def test_a_header_says_what_the_file_is(name):
    header = read_header(CORPUS[name])
    sides = {"png-noise": (19, 23), "png-rgb-16": (9, 14)}.get(name, (37, 53))
    orientation = {"jpeg-exif": 6, "png-exif": 8, "webp-alpha": 5}.get(name, 1)
    kind = name.split("-")[0].replace("pgm", "pnm").replace("ppm", "pnm")
    assert (header.kind, header.height, header.width, header.orientation) == (kind, *sides, orientation)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "empty"),
        (b"\0", "not_an_image"),
        (b"\xff", "not_an_image"),
        (b"hello, world\n", "not_an_image"),
        (b"BMI of the patients\nanna,21\n", "not_an_image"),
        (b"P5 and P6 are magic numbers\n", "not_an_image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not_an_image"),
        (b"%PDF-1.7\n", "not_an_image"),
        (bytes(1000), "not_an_image"),
        (b"\xff\xd8", "truncated"),
        (b"\x89PNG", "truncated"),
        (b"P5\n53", "truncated"),
        (b"P6 # drawn", "truncated"),
        (b"BM", "truncated"),
        (b"RIFF", "truncated"),
        (b"II*\0", "truncated"),
    ],
)
def test_what_is_no_image_has_a_status(data, status):
    assert read_status(data) == status


def draw_unsupported() -> dict[str, tuple[bytes, str]]:
    gray, rgb = draw_picture(channels=1), draw_picture()
    frames = {"save_all": True, "append_images": [Image.fromarray(rgb[::-1])]}
    jpeg = CORPUS["jpeg"]
    frame = find_segment(jpeg, 0xC0)
    indexed = make_bmp(gray, 8, palette=draw_noise(256, 1, 3)[:, 0])
    floats = make_tiff([gray.astype("<f4").tobytes()], tag_tiff(gray, 32, 1) | {339: (3,)})
    return {
        "animated PNG": (save(rgb, "PNG", **frames), "animated PNG"),
        "animated WebP": (save(rgb, "WEBP", **frames), "animated WebP"),
        "several pages": (save(rgb, "TIFF", **frames), "several pages"),
        "GIF": (save(gray, "GIF"), "GIF"),
        "JPEG 2000": (save(gray, "JPEG2000"), "JPEG 2000"),
        "HEIC": (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
        "BigTIFF": (b"II+\0\x08\0\0\0" + bytes(20), "BigTIFF"),
        "12 bits": (replace(jpeg, frame + 4, b"\x0c"), "3 x 12 bits"),
        "two components": (replace(jpeg, frame + 9, b"\2"), "2 x 8 bits"),
        "arithmetic": (replace(jpeg, frame + 1, b"\xc9"), "arithmetic"),
        "lossless": (replace(jpeg, frame + 1, b"\xc3"), "lossless"),
        "float TIFF": (floats, "32 bits, signed or floating-point"),
        "signed TIFF": (make_plain_tiff(gray, 8, 1, more={339: (2,)}), "signed"),
        "CMYK TIFF": (make_plain_tiff(draw_noise(5, 6, 4), 8, 5), "color space 5"),
        "fax TIFF": (make_plain_tiff(gray, 8, 1, more={259: (4,)}), "compression 4"),
        "16-bit BMP": (make_bmp(np.repeat(gray, 2, axis=2), 16), "BMP of 16 bits"),
        "RLE BMP": (replace(indexed, 30, b"\1"), "compression 1"),
        "critical chunk": (make_png(gray, 8, 0, (b"ABcD", b"")), "chunk 'ABcD'"),
    }


UNSUPPORTED = draw_unsupported()


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_file_says_what_it_is(name):
    data, words = UNSUPPORTED[name]
    message = find_message(data)
    assert message.startswith("unsupported: wetread does not read ") and words in message


def test_sides_that_no_decoder_takes_are_too_large():
    wide = join_png((1_000_001, 1, 8, 0, 0), (b"IDAT", zlib.compress(bytes(1_000_002))))
    jpeg = CORPUS["jpeg"]
    tall = replace(jpeg, find_segment(jpeg, 0xC0) + 5, struct.pack(">H", 65_501))
    assert [read_status(data) for data in (wide, tall)] == ["too_large", "too_large"]
    ends = join_png((1_000_000, 1, 8, 0, 0), (b"IDAT", zlib.compress(bytes(1_000_001))))
    assert read_status(ends, max_memory=1 << 32) == "ok"


def test_an_opencv_limit_below_ours_is_too_large(monkeypatch):
    """As OPENCV_IO_MAX_IMAGE_PIXELS makes it: OpenCV raises, which must not look like damage."""
    import cv2

    def refuse(*_):
        raise cv2.error("(-215:Assertion failed) pixels <= CV_IO_MAX_IMAGE_PIXELS in function 'validate'")

    monkeypatch.setattr("cv2.imdecode", refuse)
    names = ("png-gray", "webp", "tiff-lzw")
    assert [read_status(CORPUS[name]) for name in names] == ["too_large"] * 3


def test_memory_that_runs_out_is_too_large(monkeypatch):
    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr("simplejpeg.decode_jpeg", refuse)
    assert read_status(CORPUS["jpeg"]) == "too_large"


@pytest.mark.parametrize(("size", "number"), [((1 << 22, 1 << 22), errno.ENOMEM), ((0, 0), None)])
def test_an_error_of_memory_may_be_over_later_and_one_of_size_is_not(size, number, monkeypatch):
    """OpenCV's own errors: it cannot allocate 16 TiB, and nothing helps where there are no pixels."""
    tiny, resize = np.zeros((2, 2), np.uint8), cv2.resize
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_, **__: resize(tiny, size))
    with pytest.raises(ImageError) as caught:
        read_pixels(CORPUS["jpeg"], WHOLE)
    assert (caught.value.status, caught.value.errno) == ("too_large", number)


def check_cuts(name: str, *, end: bytes, step: int) -> None:
    whole = CORPUS[name]
    cuts = [*range(1, 12), *range(12, len(whole), step), *range(len(whole) - 14, len(whole))]
    for recipe in (WHOLE, SMALL):
        wrong = [
            cut
            for cut in cuts
            if read_status(whole[:cut], recipe=recipe) not in ("truncated", "not_an_image")
        ]
        assert wrong == []
        closed = [cut for cut in cuts if 2 <= cut < len(whole) - len(end)]
        assert [cut for cut in closed if read_status(whole[:cut] + end, recipe=recipe) == "ok"] == []


@pytest.mark.parametrize("name", JPEGS)
def test_a_cut_jpeg_is_found_even_with_an_end_marker(name):
    check_cuts(name, end=END_OF_JPEG, step=17)


@pytest.mark.parametrize("name", PNGS)
def test_a_cut_png_is_found_even_with_an_end_chunk(name):
    check_cuts(name, end=END_OF_PNG, step=23)


@pytest.mark.long
@pytest.mark.parametrize("name", JPEGS + PNGS)
def test_every_cut_is_found(name):
    check_cuts(name, end=END_OF_JPEG if name in JPEGS else END_OF_PNG, step=1)


@pytest.mark.parametrize("name", OTHERS)
def test_a_cut_file_of_another_kind_is_found_unless_its_pixels_are_whole(name):
    whole = CORPUS[name]
    expected = read_pixels(whole, WHOLE)
    for cut in [*range(1, 40), *range(40, len(whole), 31), *range(len(whole) - 9, len(whole))]:
        try:
            found = read_pixels(whole[:cut], WHOLE)
        except ImageError as error:
            assert "A fault of wetread" not in str(error)  # which scoring would take for one bad file
            assert error.status in ("truncated", "not_an_image")
        else:  # only what stands after the pixels is missing
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", [name for name in CORPUS if not name.startswith("tiff")])
@pytest.mark.parametrize("padding", [bytes(100), b"\r\nuploaded by anna\r\n", b"\xff" * 9, CORPUS["jpeg"]])
def test_what_follows_the_end_is_no_part_of_the_picture(name, padding):
    whole = CORPUS[name]
    np.testing.assert_array_equal(read_pixels(whole + padding, WHOLE), read_pixels(whole, WHOLE))


def test_a_thumbnail_is_not_the_picture():
    with_thumbnail = CORPUS["jpeg-exif"]
    end_of_thumbnail = with_thumbnail.index(END_OF_JPEG) + 2
    np.testing.assert_array_equal(read_pixels(with_thumbnail, WHOLE), read_pixels(CORPUS["jpeg"], WHOLE))
    assert read_status(with_thumbnail[:end_of_thumbnail]) == "truncated"
    assert read_status(with_thumbnail[: end_of_thumbnail + 300] + END_OF_JPEG) == "truncated"


@pytest.mark.parametrize("name", ["jpeg-progressive", "jpeg-progressive-gray", "jpeg-scans"])
def test_a_jpeg_that_lacks_its_last_scans_is_found(name):
    """libjpeg takes it for a blurred, or colorless, whole picture without a word."""
    whole = CORPUS[name]
    scans = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    assert len(scans) >= 3
    statuses = [read_status(whole[:scan] + END_OF_JPEG) for scan in scans]
    assert statuses == ["truncated"] * len(scans)


def test_a_jpeg_of_endless_scans_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "MAX_SCANNED_PIXELS", 1_000_000)
    whole = CORPUS["jpeg-scans"]
    scan = find_segment(whole, 0xDA)
    end = whole.index(b"\xff\xda", scan + 2)
    message = find_message(whole[:end] + whole[scan:end] * 500 + whole[end:])
    assert message.startswith("unsupported: The scans of this JPEG visit ")
    assert "pixels, and 1,000,000 are allowed" in message


def test_a_jpeg_too_short_for_its_size_is_found_before_memory_is_set_aside(monkeypatch):
    jpeg = CORPUS["jpeg"]
    huge = replace(jpeg, find_segment(jpeg, 0xC0) + 5, struct.pack(">HH", 16_000, 16_000))
    monkeypatch.setattr("simplejpeg.decode_jpeg", None)
    assert "too short for its size" in find_message(huge)


@pytest.mark.parametrize("sides", [(36, 53), (38, 53), (37, 45), (37, 61), (0, 53), (200, 53)])
@pytest.mark.parametrize("name", ["png-gray", "png-rgba", "png-interlaced"])
def test_a_png_that_lies_about_its_size_is_found(name, sides):
    ihdr = struct.pack(">II", *sides[::-1]) + CORPUS[name][24:29]
    found = read_status(CORPUS[name][:8] + chunk(b"IHDR", ihdr) + CORPUS[name][33:])
    assert found in ("truncated", "malformed")


def test_a_png_may_not_hide_damage_behind_right_checksums():
    gray = draw_picture(channels=1)
    rows = b"".join(b"\0" + row.tobytes() for row in gray)
    ihdr, packed = (53, 37, 8, 0, 0), zlib.compress(rows)
    damaged = {
        "short": zlib.compress(rows[: 20 * 54]),
        "long": zlib.compress(rows + b"\0"),
        "unfinished": packed[:-5],
        "checksum": packed[:-1] + bytes((packed[-1] ^ 1,)),
        "filter": zlib.compress(b"\x05" + rows[1:]),
        "followed": packed + b"more",
        "empty": b"",
    }
    found = {name: read_status(join_png(ihdr, (b"IDAT", data))) for name, data in damaged.items()}
    cut = dict.fromkeys(("short", "unfinished", "empty"), "truncated")
    assert found == dict.fromkeys(damaged, "malformed") | cut
    assert read_status(join_png(ihdr, (b"IDAT", packed))) == "ok"


def test_a_png_header_that_makes_no_sense_is_found():
    gray = draw_picture(channels=1)
    whole = make_png(gray, 8, 0)
    depths = [(3, 0), (16, 3), (4, 2), (8, 5)]
    headers = [struct.pack(">IIBBBBB", 53, 37, depth, color, 0, 0, 0) for depth, color in depths]
    headers += [struct.pack(">IIBBBBB", 53, 37, 8, 0, *rest) for rest in ((1, 0, 0), (0, 1, 0), (0, 0, 2))]
    headers.append(b"short")
    assert [read_status(whole[:8] + chunk(b"IHDR", h) + whole[33:]) for h in headers] == ["malformed"] * 8
    assert read_status(whole[:8] + whole[33:]) == "malformed"
    assert read_status(whole[:33] + whole[8:]) == "malformed"


def test_a_color_that_the_palette_lacks_is_found():
    indices = np.full((3, 4, 1), 2, np.uint8)
    three, two = (make_png(indices, 8, 3, (b"PLTE", bytes(3 * n))) for n in (3, 2))
    assert [read_status(data) for data in (three, two)] == ["ok", "malformed"]
    assert read_status(make_png(indices, 8, 3)) == "malformed"
    assert read_status(make_bmp(indices, 8, palette=np.zeros((2, 3), np.uint8))) == "malformed"


@pytest.mark.parametrize("bits", [0, 8, 100, 1000])
@pytest.mark.parametrize("name", PNGS)
def test_a_flipped_bit_in_a_png_is_found(name, bits):
    whole = bytearray(CORPUS[name])
    whole[(8 + bits * 7919) % (len(whole) - 8) + 8] ^= 1 << bits % 8
    assert read_status(bytes(whole)) in ("truncated", "malformed", "unsupported")


def test_a_jpeg_of_another_height_than_its_data_is_found():
    jpeg = CORPUS["jpeg-444"]
    at = find_segment(jpeg, 0xC0) + 5
    found = [read_status(replace(jpeg, at, struct.pack(">H", height))) for height in (0, 20, 60)]
    assert found == ["malformed", "malformed", "truncated"]


def test_a_bmp_that_lies_about_its_size_is_found():
    bmp = CORPUS["bmp"]
    for at, sides in ((18, (0, -53, 60, 2**31 - 1)), (22, (0, 38, -38, 2**31 - 1))):
        found = [read_status(replace(bmp, at, struct.pack("<i", side))) for side in sides]
        assert found == ["malformed", "malformed" if at == 18 else "truncated", "truncated", "truncated"]
    assert read_status(replace(bmp, 10, struct.pack("<I", 20))) == "malformed"


def test_a_webp_that_lies_about_its_size_is_found():
    whole, alpha = CORPUS["webp"], CORPUS["webp-alpha"]
    canvas = replace(alpha, 24, (99).to_bytes(3, "little"))
    frame = replace(whole, 26, struct.pack("<H", 99))
    riff = replace(whole, 4, struct.pack("<I", len(whole)))
    assert [read_status(data) for data in (canvas, frame, riff)] == ["malformed", "malformed", "truncated"]


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_a_tiff_strip_that_is_short_inside_a_whole_file_is_found(compression):
    names = {1: "raw", 5: "tiff_lzw", 8: "tiff_deflate", 32773: "packbits"}
    gray = draw_picture(40, 60, channels=1)
    strips = []
    for half in (gray[:20], gray[20:]):
        file = save(half, "TIFF", compression=names[compression])
        header = read_header(file)
        strips.append(file[header.tags[273][0] :][: header.tags[279][0]])
    tags = tag_tiff(gray, 8, 1) | {259: (compression,), 278: (20,)}
    np.testing.assert_array_equal(
        read_pixels(make_tiff(strips, tags), PixelRecipe(height=40, width=60)), gray
    )
    for index in range(2):
        for size in (0, 1, len(strips[index]) // 2, len(strips[index]) - 9):
            cut = [strip[: size if k == index else None] for k, strip in enumerate(strips)]
            assert read_status(make_tiff(cut, tags)) == "truncated", (index, size)
    assert read_status(make_tiff(strips[:1], tags)) == "malformed"
    assert read_status(make_tiff(strips, tags | {257: (61,)})) == "malformed"
    assert read_status(make_tiff(strips, tags | {256: (70,)})) == "truncated"


@pytest.mark.parametrize("compression", ["raw", "packbits"])
def test_a_predictor_that_a_tiff_was_not_compressed_with_is_a_leftover(compression):
    """Pillow keeps the tags of the LZW file that it saves anew."""
    gray = draw_picture(40, 60, channels=1)
    kept = Image.open(io.BytesIO(save(gray, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}))).tag_v2
    assert kept[317] == 2
    file = save(gray, "TIFF", compression=compression, tiffinfo={317: 2})
    assert read_header(file).tags[317] == (2,)
    np.testing.assert_array_equal(read_pixels(file, PixelRecipe(height=40, width=60)), gray)


def test_a_tiff_without_a_page_or_with_a_loop_of_directories_ends():
    loop = bytearray(CORPUS["tiff"])
    start = struct.unpack_from("<I", loop, 4)[0]
    struct.pack_into("<I", loop, start + 2 + 12 * loop[start], start)
    assert read_status(bytes(loop)) == "ok"
    assert read_status(b"II*\0" + bytes(8)) == "malformed"


def test_a_reduced_copy_is_not_a_page():
    gray = draw_picture(channels=1)
    both = bytearray(make_plain_tiff(gray, 8, 1))
    copy = make_plain_tiff(gray[:4, :5], 8, 1, more={254: (1,)})
    start = struct.unpack_from("<I", both, 4)[0]
    struct.pack_into("<I", both, start + 2 + 12 * both[start], len(both))
    at = struct.unpack_from("<I", copy, 4)[0]
    assert read_status(bytes(both) + copy[at:]) == "ok"
    full = make_plain_tiff(gray[:4, :5], 8, 1)
    assert read_status(bytes(both) + full[struct.unpack_from("<I", full, 4)[0] :]) == "unsupported"


@pytest.mark.parametrize("top", [0, 65536])
def test_a_pnm_of_an_impossible_top_is_damaged(top):
    file = make_pnm(draw_picture(channels=1), top=1).replace(b"\n1\n", b"\n%d\n" % top)
    assert read_status(file) == "malformed"


def test_a_pnm_sample_above_its_top_is_damaged():
    assert read_status(make_pnm(draw_picture(channels=1), top=9)) == "malformed"


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_out_of_range_is_none(value):
    jpeg = insert_segment(CORPUS["jpeg"], 0xE1, b"Exif\0\0" + make_exif(value))
    assert read_header(jpeg).orientation == 1


@pytest.mark.parametrize("block", [b"", b"MM", b"XX*\0", make_exif(6)[:12], b"II*\0\xff\xff\xff\xff"])
def test_a_damaged_exif_block_turns_nothing(block):
    assert read_header(insert_segment(CORPUS["jpeg"], 0xE1, b"Exif\0\0" + block)).orientation == 1


def test_the_first_exif_block_counts():
    twice = insert_segment(CORPUS["jpeg-exif"], 0xE1, b"Exif\0\0" + make_exif(3))
    assert read_header(twice).orientation == 3


def test_scans_of_their_own_are_read():
    planes = [draw_picture(24, 32, channels=1)[::step] for step in (1, -1, 1)]
    data = split_scans(planes)
    assert read_header(data).components == 3
    gray = read_pixels(data, PixelRecipe(height=24, width=32, scaled_decoding=0))
    expected = read_pixels(
        save(planes[0], "JPEG", quality=90), PixelRecipe(height=24, width=32, scaled_decoding=0)
    )
    np.testing.assert_array_equal(gray, expected)
