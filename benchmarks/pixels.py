"""Measure the pixels: what they cost beside the bare decoder, what scaling changes, what damage is missed.

    python benchmarks/pixels.py [--data FOLDER] [--files 400]

Contenders take turns in one thread, by its CPU time; each ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from time import thread_time

import cv2
import numpy as np
import simplejpeg

from wetread.errors import ImageError
from wetread.runtime.images.formats import read_header
from wetread.runtime.images.pixels import choose_dct_scale, read_pixels
from wetread.runtime.images.recipe import PixelRecipe

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RECIPE = PixelRecipe()
ROUNDS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("WETREAD_DATA", DATA)))
    parser.add_argument("--files", type=int, default=400)
    arguments = parser.parse_args()
    small = sorted((arguments.data / "chest-xray-224").glob("*/*"))
    step = max(len(small) // arguments.files, 1)
    squares = [path.read_bytes() for path in small[::step]]
    full = [path.read_bytes() for path in sorted((arguments.data / "chest-xray-full").iterdir())]
    print("| files | to read_pixels | median ratio |\n|---|---|---|")
    compare("224 pixels", squares, decode_and_average, "simplejpeg at that scale and cv2.resize")
    compare("224 pixels", squares, decode_whole, "simplejpeg at full size and cv2.resize")
    compare("full size", full, decode_only, "simplejpeg at that scale alone")
    compare("full size", full, decode_whole, "simplejpeg at full size and cv2.resize")
    print()
    describe_scaling(full)
    describe_damage(squares)


def find_sides(data: bytes) -> tuple[int, int]:
    """(height, width) at the scale that the recipe chooses."""
    header = read_header(data)
    eighths = choose_dct_scale(header, RECIPE)
    return -(-header.height * eighths // 8), -(-header.width * eighths // 8)


def decode_only(data: bytes, sides: tuple[int, int]) -> np.ndarray:
    """The bare decoder, told the size."""
    return simplejpeg.decode_jpeg(data, "GRAY", min_height=sides[0], min_width=sides[1])


def decode_and_average(data: bytes, sides: tuple[int, int]) -> np.ndarray:
    image = decode_only(data, sides)
    return cv2.resize(image, (RECIPE.width, RECIPE.height), interpolation=cv2.INTER_AREA)


def decode_whole(data: bytes, sides: tuple[int, int]) -> np.ndarray:
    image = simplejpeg.decode_jpeg(data, "GRAY")
    return cv2.resize(image, (RECIPE.width, RECIPE.height), interpolation=cv2.INTER_AREA)


def read_by_wetread(data: bytes, sides: tuple[int, int]) -> np.ndarray:
    return read_pixels(data, RECIPE)


def compare(
    name: str, files: list[bytes], other: Callable[[bytes, tuple[int, int]], np.ndarray], label: str
) -> None:
    """Print how long read_pixels takes, as a multiple of another way."""
    known = [(data, find_sides(data)) for data in files]
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for read in (read_by_wetread, other):
            start = thread_time()
            for data, sides in known:
                read(data, sides)
            seconds.append(thread_time() - start)
        ratios.append(seconds[0] / seconds[1])
    print(f"| {name} | {label} | {statistics.median(ratios):.2f} |", flush=True)


def describe_scaling(files: list[bytes]) -> None:
    """Print how far scaled decoding is from decoding at full size, in gray levels at the model's size."""
    unscaled = PixelRecipe(scaled_decoding=0)
    away = [np.abs(read_pixels(d, RECIPE).astype(int) - read_pixels(d, unscaled)) for d in files]
    means = ", ".join(f"{difference.mean():.2f}" for difference in away)
    largest = max(difference.max() for difference in away)
    print(f"Scaled decoding against full: {means} gray levels apart in the mean; largest {largest}.")


def describe_damage(files: list[bytes]) -> None:
    """Print what share of single bits flipped in entropy-coded data is found, and what the rest does."""
    chance = random.Random(0)
    found, away = 0, []
    for data in files:
        start = data.index(b"\xff\xda") + 14
        damaged = bytearray(data)
        damaged[chance.randrange(start, len(data) - 2)] ^= 1 << chance.randrange(8)
        try:
            image = read_pixels(bytes(damaged), RECIPE)
        except ImageError:
            found += 1
        else:
            away.append(np.abs(image.astype(int) - read_pixels(data, RECIPE)).mean())
    print(
        f"One bit flipped in the entropy-coded data of each of {len(files)} JPEGs: {found / len(files):.0%} "
        f"found. The rest are off by {statistics.median(away):.2f} gray levels in the median, by "
        f"{np.quantile(away, 0.9):.0f} or more in the worst tenth, by {max(away):.0f} at most."
    )


if __name__ == "__main__":
    main()
