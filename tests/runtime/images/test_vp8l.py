"""The groups of prefix codes of a lossless WebP are counted from its header as libwebp counts them."""

from __future__ import annotations

import io
import random
import re
import shutil
import subprocess
import time
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from tests.runtime.corpus import save
from tests.runtime.images.lossless_webp import (
    SUBTRACT_GREEN,
    Bits,
    flat_code,
    join,
    make_palette,
    make_stream,
    make_tiles,
    make_transform,
    number,
    one_symbol,
    pack,
    wrap,
)
from wetread.errors import ImageError
from wetread.runtime.images.formats import vp8l
from wetread.runtime.images.formats.vp8l import DamagedStreamError, LongHeaderError, count_groups
from wetread.runtime.images.formats.webp import _find_lossless, read_webp
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

SMALL = PixelRecipe(height=16, width=16)


def find_groups(file: bytes) -> list[tuple[int, int]]:
    """The groups and the bits of the color cache of each lossless stream of a still WebP."""
    header = read_webp(file)
    return [tuple(count_groups(file, *one)) for one in _find_lossless(file, (header.height, header.width))]


def count_tables(file: bytes) -> int:
    """The tables that are counted when the picture fits in memory, but not any tables."""
    return read_webp(file, max_memory=11 * read_webp(file).pixels + 2 * len(file)).tables


def decodes(file: bytes) -> bool:
    return cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED) is not None


def read_status(file: bytes, max_memory: int = 1 << 30) -> str:
    try:
        read_pixels(file, SMALL, max_memory=max_memory)
    except ImageError as error:
        return error.status
    return "ok"


@st.composite
def draw_transforms(draw: st.DrawFn) -> tuple[int, tuple[Bits, ...]]:
    """Transforms in any order, each once; and the colors of the palette, 256 without one."""
    colors = draw(st.sampled_from([1, 2, 3, 4, 5, 16, 17, 256]))
    tile = draw(st.integers(2, 9))
    every = [make_transform(0, tile), make_transform(1, 2), SUBTRACT_GREEN, make_palette(colors)]
    chosen = draw(st.lists(st.sampled_from(range(4)), unique=True))
    return colors if 3 in chosen else 256, tuple(every[one] for one in chosen)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 30),
    st.integers(0, 11),
    st.booleans(),
    draw_transforms(),
    st.integers(2, 9),
)
def test_groups_made_by_hand_are_counted(height, width, groups, cache_bits, long, transforms, tile):
    colors, parts = transforms
    packed = -(-width // {1: 8, 2: 8, 3: 4, 4: 4, 5: 2, 16: 2}.get(colors, 1))
    groups = min(groups, -(-height // (1 << tile)) * -(-packed // (1 << tile)))
    options = {"cache_bits": cache_bits, "long": long, "transforms": parts, "colors": colors, "tile": tile}
    file = wrap((b"VP8L", make_stream(height, width, groups, **options)))
    assert find_groups(file) == [(groups, cache_bits)]
    assert decodes(file)
    lossy = save(np.zeros((height, width, 3), np.uint8), "WEBP")
    alpha = b"\1" + make_stream(height, width, groups, alpha=True, **options)
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    file = wrap((b"VP8X", b"\x10\0\0\0" + sides), (b"ALPH", alpha), (b"VP8 ", lossy[20:]))
    assert find_groups(file) == [(groups, cache_bits)]
    assert decodes(file)


def start_stream(height: int, width: int, version: int = 0) -> Bits:
    return join(number(0x2F, 8), number(width - 1, 14), number(height - 1, 14), number(version << 1, 4))


@pytest.mark.parametrize(
    ("side", "tiles", "expected"),
    [(512, [0, 999], 1000), (512, [7, 1000], 2), (512, [65535], 1), (18, [299], 300), (17, [299], 1)],
)
def test_groups_that_no_tile_uses_count_up_to_a_thousand(side, tiles, expected):
    """As libwebp keeps them. A picture of fewer pixels than that has as many groups as pixels."""
    head = join(start_stream(side, side * len(tiles)), number(0, 2), number(1, 1), number(7, 3))
    assert find_groups(wrap((b"VP8L", pack(join(head, make_tiles(np.array(tiles))))))) == [(expected, 0)]


def test_short_distances_are_the_places_of_the_format():
    """Those that RFC 9649 lists first and last."""
    assert vp8l._PLACES[:8] == [(0, 1), (1, 0), (1, 1), (-1, 1), (0, 2), (2, 0), (1, 2), (-1, 2)]
    assert vp8l._PLACES[-5:] == [(8, 5), (7, 7), (-7, 7), (8, 6), (8, 7)]
    assert len(vp8l._PLACES) == 120


@pytest.mark.parametrize("colors", [3, 16, 256])
@pytest.mark.parametrize("method", [0, 4, 6])
def test_the_colors_of_a_palette_are_read(monkeypatch, colors, method):
    """They stand in the stream as differences, and are those of the picture."""
    chance, images = np.random.default_rng(colors), []
    palette = np.repeat(chance.integers(0, 256, (colors, 1)), 3, axis=1).astype(np.uint8)
    palette[:, 0] //= 4
    picture = palette[chance.integers(0, colors, (70, 90))]
    read = vp8l._read_image
    monkeypatch.setattr(vp8l, "_read_image", lambda *args: images.append(read(*args)) or images[-1])
    find_groups(save(picture, "WEBP", lossless=True, method=method))
    written = next(
        np.array(image, np.uint32) for image in images if len(image) == len(np.unique(palette, axis=0))
    )
    samples = np.cumsum(written.view(np.uint8).reshape(-1, 4), axis=0, dtype=np.uint8)
    assert set(map(tuple, samples[:, 2::-1].tolist())) == set(map(tuple, palette.tolist()))


def draw_pictures() -> dict[str, np.ndarray]:
    chance = np.random.default_rng(0)
    smooth = cv2.resize(chance.integers(0, 256, (9, 11, 3)).astype(np.uint8), (210, 190))
    return {
        "noise": chance.integers(0, 256, (61, 83, 3)).astype(np.uint8),
        "smooth": smooth,
        "parts": np.where(np.arange(210)[None, :, None] < 100, smooth, smooth[::-1] // 16 * 16),
        "alpha": np.dstack([smooth, smooth[..., 0] // 2 + 100]),
        **{
            f"{colors} colors": chance.integers(0, 256, (colors, 3)).astype(np.uint8)[
                np.sort(chance.integers(0, colors, (97, 130)), axis=chance.integers(2))
            ]
            for colors in (1, 2, 4, 16, 256)
        },
        "one pixel": np.full((1, 1, 3), 77, np.uint8),
        "a row": chance.integers(0, 4, (1, 4000, 3)).astype(np.uint8),
        "a column": chance.integers(0, 4, (4000, 1, 3)).astype(np.uint8),
    }


PICTURES = draw_pictures()


@cache
def encode(name: str, method: int) -> bytes:
    return save(PICTURES[name], "WEBP", lossless=True, quality=80, method=method, exact=True)


@pytest.mark.parametrize("name", PICTURES)
def test_what_libwebp_writes_is_read_and_never_refused(name):
    """By each method, and as alpha. Where no memory is left for the longest tables, the real ones count."""
    picture = PICTURES[name]
    for method in range(7):
        file = encode(name, method)
        ((groups, cache_bits),) = find_groups(file)
        assert 1 <= groups <= 100
        assert 0 <= cache_bits <= 10
        assert count_tables(file) <= groups * 20_600
    assert read_status(save(np.dstack([picture[..., :3], picture[..., 0]]), "WEBP")) in ("ok", "blank")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(PICTURES)), st.integers(0, 6), st.randoms())
def test_a_damaged_header_is_called_damaged_only_if_libwebp_fails(name, method, chance: random.Random):
    """Whatever libwebp decodes has its groups counted, too. A file that is cut or damaged in its header keeps
    the status that it has without counting."""
    file = bytearray(encode(name, method))
    if chance.random() < 0.3:
        cut = chance.randrange(26, min(300, len(file)) + 1) & ~1
        file[cut:] = b""
        file[4:8], file[16:20] = (len(file) - 8).to_bytes(4, "little"), (cut - 20).to_bytes(4, "little")
    for _ in range(chance.randrange(4)):
        at = chance.randrange(25, min(400, len(file)))
        file[at] ^= 1 << chance.randrange(8)
    file = bytes(file)
    try:
        find_groups(file)
    except DamagedStreamError:
        assert not decodes(file)
        assert read_status(file, max_memory=1 << 26) == "malformed"
    assert read_status(file, max_memory=1 << 26) == read_status(file, max_memory=1 << 34)


def test_pillow_agrees_on_what_is_damaged_in_the_header():
    """Streams that break one rule each."""
    head, end, palette = start_stream(10, 10), number(0, 400), number(0b11111111_11_1, 11)
    constant = [one_symbol()] * 4
    # The lengths 138 zeros, 118 zeros, and 1: only symbol 256, which copies a pixel.
    copy = join(number(0, 5), number(0b001_000_001_000, 12), number(0b0_01_000_1, 6))
    copy = join(copy, number(1 | 127 << 1, 8), number(1 | 107 << 1, 8), number(0, 1))
    broken = {
        "version": join(start_stream(10, 10, version=1), end),
        "transform twice": join(head, SUBTRACT_GREEN, SUBTRACT_GREEN, end),
        "cache of 12 bits": join(head, number(0, 1), number(1, 1), number(12, 4), end),
        "code without symbols": join(head, palette, end),
        "end": join(head, palette, number(0, 1), flat_code(280), *constant),
        "copy before the start": join(head, palette, number(0, 1), copy, *constant, end),
    }
    for name, bits in broken.items():
        file = wrap((b"VP8L", pack(bits)))
        with pytest.raises(DamagedStreamError):
            find_groups(file)
            pytest.fail(name)
        with pytest.raises((UnidentifiedImageError, OSError)):
            Image.open(io.BytesIO(file)).load()
        assert read_status(file) == "malformed", name


def test_a_header_that_is_too_long_is_not_read_and_counts_the_most(monkeypatch):
    file = wrap((b"VP8L", make_stream(64, 64, 9, transforms=(make_transform(0, 2),))))
    monkeypatch.setattr(vp8l, "MAX_PIXELS", 511)
    with pytest.raises(LongHeaderError):
        count_groups(file, 20)
    assert count_tables(file) == read_webp(file).tables
    monkeypatch.setattr(vp8l, "MAX_PIXELS", 512)
    assert count_tables(file) == 9 * (4 * (2300 + 2704) + 568)


@pytest.mark.long
def test_the_largest_header_that_is_read_takes_less_than_a_minute():
    """As many pixels as are read at all, none of them a copy."""
    tiles = make_tiles(np.arange(1 << 20) % 7)
    transforms = [join(number(1, 1), number(kind, 2), number(2, 3), tiles) for kind in (0, 1)]
    entropy = join(number(0, 2), number(1, 1), number(2, 3), tiles)
    file = wrap((b"VP8L", pack(join(start_stream(16384, 16384), *transforms, entropy))))
    start = time.perf_counter()
    assert find_groups(file) == [(7, 0)]
    assert time.perf_counter() - start < 60


HOOK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
void *malloc(size_t size) {
  static void *(*real)(size_t);
  char line[32];
  if (!real) real = dlsym(RTLD_NEXT, "malloc");
  if (size >= 568 && write(9, line, snprintf(line, 32, "%zu\\n", size)) < 0) return 0;
  return real(size);
}
"""
JUDGES = ("cwebp", "dwebp", "cc")
GREEN = (654, 656, 658, 662, 670, 686, 718, 782, 912, 1168, 1680, 2704)


def watch_libwebp(folder: Path, file: bytes) -> tuple[int, int] | None:
    """The groups and the bits of the color cache for which dwebp allocates tables last; None for none."""
    if not (folder / "hook.so").exists():
        (folder / "hook.c").write_text(HOOK)
        command = ["cc", "-shared", "-fPIC", "-o", folder / "hook.so", folder / "hook.c", "-ldl"]
        subprocess.run(command, check=True)
    (folder / "one.webp").write_bytes(file)
    command = ["sh", "-c", f"LD_PRELOAD={folder}/hook.so exec dwebp -quiet one.webp -o /dev/null 9>sizes"]
    subprocess.run(command, cwd=folder, check=True)
    sizes = [int(line) for line in (folder / "sizes").read_text().split()]
    found = None
    for pair in pairwise(sizes):
        for groups, tables in (pair, pair[::-1]):
            count, rest = divmod(groups, 568)
            green = tables / 4 / max(count, 1) - 3 * 630 - 410
            if not rest and green in GREEN:
                found = (count, GREEN.index(int(green)))
    return found


def find_radiographs() -> list[Path]:
    return sorted((Path(__file__).parents[4] / "shared" / "data" / "chest-xray-full").rglob("*.jp*g"))[:3]


@pytest.mark.long
@pytest.mark.skipif(
    not all(map(shutil.which, ("cwebp", "dwebp", "cc"))), reason="cwebp, dwebp or cc is absent"
)
def test_dwebp_allocates_tables_for_as_many_groups(tmp_path):
    """Pictures drawn and real, by every method and level of cwebp, near lossless, and as alpha."""
    pictures = PICTURES | {str(path): cv2.imread(str(path)) for path in find_radiographs()}
    options = [f"-lossless -m {method} -q {9 * method + 40}" for method in range(7)]
    options += [f"-z {level}" for level in range(0, 9, 2)] + ["-near_lossless 40", "-q 60", "-exact -z 3"]
    counted = 0
    for name, picture in pictures.items():
        height, width = picture.shape[:2]
        if height * width > 1_000_000:
            picture = cv2.resize(picture, (1_000, 1_000 * height // width), interpolation=cv2.INTER_AREA)
        picture = picture if picture.shape[2] == 4 else np.dstack([picture, picture[..., 0]])
        cv2.imwrite(str(tmp_path / "one.png"), picture)
        for option in options:
            command = ["cwebp", "-v", *option.split(), "one.png", "-o", "one.webp"]
            done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
            file = (tmp_path / "one.webp").read_bytes()
            groups = find_groups(file)
            assert groups in ([], [watch_libwebp(tmp_path, file)]), (name, option)
            if said := re.search(r"Precision Bits:.* cache=(\d+)", done.stderr):
                assert "-q 60" in option or groups[0][1] == int(said[1])
            counted += len(groups)
    assert counted > len(pictures) * (len(options) - 1)
