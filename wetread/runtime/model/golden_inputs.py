"""Draw the inputs of the golden self-test: the same bytes on every machine, from a seed, without patients.

They are drawn with integers and wetread's own generator (SplitMix64), so that no library's random numbers, no
floating point and no instruction set can change them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ModelError
from wetread.runtime.images.pixels import Pixels, read_pixels, resize
from wetread.runtime.images.recipe import PixelRecipe, find_family
from wetread.runtime.model.spec import Golden

JPEG = "golden-1.jpg"
MAX_INPUTS = 8
QUANTILES = 17
EVEN_INTENSITIES = tuple(min(16 * step, 255) for step in range(QUANTILES))
# Lattices of smooth noise: cells along each side, and how much each counts.
_OCTAVES = ((2, 12), (4, 8), (8, 5), (16, 3), (32, 2))
# Larger images are drawn in blocks: every load draws them again, and has 50 ms for everything.
_MAX_DRAWN = 112
# Old and new sides that run each branch of `pixels.resize`: OpenCV's, the exact sums, and enlarging.
_RESIZES = ((48, 80, 16), (50, 71, 16), (10, 13, 24))


def draw_noise(seed: int, count: int) -> NDArray[np.uint64]:
    """Draw `count` 64-bit numbers by SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). uint64 (count,)."""
    with np.errstate(over="ignore"):
        state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def draw_image(
    seed: int, *, shape: tuple[int, int, int], intensities: tuple[int, ...] = EVEN_INTENSITIES
) -> Pixels:
    """Draw one smooth image whose gray levels are distributed like `intensities`.

    `shape`: (height, width, channels). `intensities`: 17 quantiles, 0 to 255, rising. Returns uint8 of
    `shape`; the same arguments give the same image on every machine.
    """
    height, width, channels = shape
    block = -(-max(height, width) // _MAX_DRAWN)
    small = (-(-height // block), -(-width // block))
    planes = [_smooth_field(seed * 4 + k, *small) for k in range(channels if channels > 1 else 1)]
    if channels > 1:
        light = _smooth_field(seed * 4 + 3, *small)
        planes = [3 * light + plane for plane in planes]
    picture = np.stack([_spread(plane, seed, intensities) for plane in planes], axis=2)
    return np.repeat(np.repeat(picture, block, axis=0), block, axis=1)[:height, :width]


def _smooth_field(seed: int, height: int, width: int) -> NDArray[np.int64]:
    """Add lattices of noise, each enlarged to (height, width) with integer bilinear weights."""
    total: NDArray[np.int64] = np.zeros((height, width), np.int64)
    for index, (cells, weight) in enumerate(_OCTAVES):
        noise = draw_noise(seed * 8 + index, (cells + 1) ** 2) >> np.uint64(56)
        lattice = noise.astype(np.int64).reshape(cells + 1, cells + 1)
        (top, down), (left, right) = _lattice_weights(height, cells), _lattice_weights(width, cells)
        rows = lattice[top] * (256 - down)[:, None] + lattice[top + 1] * down[:, None]
        grown = rows[:, left] * (256 - right) + rows[:, left + 1] * right
        total += np.asarray(weight * grown, np.int64)
    return total


@lru_cache(maxsize=32)
def _lattice_weights(size: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each pixel its cell, and its position in the cell, in 256ths."""
    at = np.arange(size, dtype=np.int64) * (cells * 256) // max(size, 2)
    return at // 256, at % 256


def _spread(field: NDArray[np.int64], seed: int, intensities: tuple[int, ...]) -> Pixels:
    """Map a field to gray levels whose histogram follows the quantiles, with an exposure from the seed."""
    low, high = int(field.min()), int(field.max())
    levels = (field - low) * 1023 // max(high - low, 1)
    below = np.cumsum(np.bincount(levels.ravel(), minlength=1024)) * 4096 // field.size
    curve = np.asarray(intensities, np.int64)
    cell, part = np.minimum(below // 256, 15), below - np.minimum(below // 256, 15) * 256
    gray = (curve[cell] * (256 - part) + curve[cell + 1] * part) // 256
    # Including under- and overexposed images: half to one and a half times as bright.
    exposure = 128 + int(draw_noise(seed, 1)[0] % np.uint64(257)) if seed % 2 else 256
    table = np.minimum(gray * exposure // 256, 255).astype(np.uint8)
    spread: Pixels = table[levels]
    return spread


@lru_cache(maxsize=2)
def read_golden_jpeg(name: str) -> bytes:
    """Return the bytes of the drawn JPEG that is part of wetread. Raises ModelError for an unknown name."""
    file = Path(__file__).parent / name
    if "/" in name or not name.startswith("golden-") or not file.is_file():
        raise ModelError(
            f"The self-test needs {name!r}, and this wetread has {JPEG}. Install the wetread that made the "
            "model."
        )
    return file.read_bytes()


def draw_inputs(golden: Golden, recipe: PixelRecipe) -> tuple[Pixels, str]:
    """Return the self-test's inputs, and the digest of the pixels that this machine computes.

    Inputs: the drawn JPEG as the recipe reads it, then one image for each seed; uint8 (N, height, width,
    channels). The SHA-256 is of the first input and of fixed images resized by every branch of
    `pixels.resize`, so that each model tests all of that code, whatever its size.
    """
    first = read_pixels(read_golden_jpeg(golden.jpeg), recipe)
    drawn = [draw_image(seed, shape=recipe.shape, intensities=golden.intensities) for seed in golden.seeds]
    digest = hashlib.sha256(first.tobytes())
    for height, width, side in _RESIZES:
        picture = draw_image(1, shape=(height, width, recipe.channels))
        small = PixelRecipe(height=side, width=side, color=recipe.color)
        digest.update(resize(picture, small).tobytes())
        if find_family(recipe.kernel):
            digest.update(resize(picture, replace(recipe, height=side, width=side)).tobytes())
    return np.stack([first, *drawn]), digest.hexdigest()
