"""Decoded samples to 8 bits, gray or RGB: depth, white, alpha and gray, as a recipe says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wetread.runtime.images.formats import Samples, Stored, unsupported
from wetread.runtime.images.recipe import PixelRecipe

Pixels = NDArray[np.uint8]

_DEPTHS = (8, 10, 12, 14, 16)
# Rec. 601 in 65,536ths, rounded half up; libpng's weights in 32,768ths, cut off.
_GRAY_WEIGHTS = {"rec601": (19595, 38470, 7471, 32768, 16), "libpng": (9797, 19234, 3737, 0, 15)}
# Arithmetic wider than a byte runs over this many pixels at a time.
STRIP_PIXELS, STRIP_BYTES = 1 << 16, 32


def convert_samples(samples: Samples, recipe: PixelRecipe, *, inks: bool = False) -> Pixels:
    """Bring samples to 8 bits, over black, and to gray if the recipe says so. Returns (H, W, 1 or 3).

    `inks`: what stands as alpha is black ink, which counts whatever the recipe says of alpha. Raises
    ImageError('unsupported') for samples that the recipe's loader does not bring to 8 bits.
    """
    color, alpha, white_is_zero = samples
    plain = alpha is None
    if recipe.alpha == "drop" and not inks:
        alpha = None
    to_gray = recipe.color == "gray" and color.shape[2] == 3
    if color.itemsize == 1 and alpha is None and not white_is_zero and not to_gray:
        return color
    tops = _choose_top(color, recipe, plain=plain), _choose_top(alpha, recipe, plain=False)
    height, width, channels = color.shape
    image = np.empty((height, width, 1 if to_gray else channels), np.uint8)
    strip = max(STRIP_PIXELS // width, 1)
    deep = to_gray and recipe.gray == "libpng" and color.itemsize == 2
    for top in range(0, height, strip):
        rows = slice(top, top + strip)
        if deep:
            image[rows, :, 0] = _cut_gray(color[rows])
            continue
        share = None if alpha is None else to_eight_bits(alpha[rows, :, 0], tops[1])
        planes = (
            _composite(to_eight_bits(color[rows, :, channel], tops[0]), share, white_is_zero)
            for channel in range(channels)
        )
        if to_gray:
            image[rows, :, 0] = _to_gray(*planes, rule="rec601" if inks else recipe.gray)
        else:
            for channel, plane in enumerate(planes):
                image[rows, :, channel] = plane
    return image


_CLIPPED, _HIGH_BYTE = 0, -1  # in place of a largest value: how else 16 bits become 8


def find_top(samples: Stored | None) -> int:
    """Return the largest value of the smallest depth (8, 10, 12, 14 or 16 bits) that holds every sample.

    The high byte of a 12-bit X-ray in a 16-bit file would be nearly black.
    """
    if samples is None or samples.itemsize == 1:
        return 255
    largest = int(samples.max())
    return next((1 << bits) - 1 for bits in _DEPTHS if largest < 1 << bits)


def _choose_top(samples: Stored | None, recipe: PixelRecipe, *, plain: bool) -> int:
    """Return `find_top`, or another loader's rule if the recipe has one.

    That is the high byte, or in Pillow for gray without alpha, a cut at 255. Raises ImageError('unsupported')
    for what Pillow does not bring to 8 bits.
    """
    if samples is None or samples.itemsize == 1 or recipe.depth == "significant-bits":
        return find_top(samples)
    if recipe.depth != "pillow" or not plain or samples.shape[2] != 1:
        return _HIGH_BYTE
    if recipe.color == "gray":
        raise unsupported(
            "16-bit gray, which Keras' load_img hands to a network as it is, up to 65,535 where other "
            "files end at 255: save it with 8 bits"
        )
    return _CLIPPED


def to_eight_bits(plane: Stored, top: int) -> Pixels:
    """Scale samples of more than 8 bits, `top` the largest of their depth, to 0..255, rounded half up."""
    if plane.itemsize == 1:
        return plane
    if top == _CLIPPED:
        return np.minimum(plane, 255).astype(np.uint8)
    if top == _HIGH_BYTE:
        return (plane >> 8).astype(np.uint8)
    return ((plane * np.uint32(255) + np.uint32(top // 2)) // np.uint32(top)).astype(np.uint8)


def _composite(plane: Pixels, share: Pixels | None, white_is_zero: bool) -> Pixels:
    """Turn a plane's white the right way round, and multiply it by its alpha or its black ink."""
    if white_is_zero:
        plane = np.invert(plane)
    if share is None:
        return plane
    return ((plane * share.astype(np.uint16) + np.uint16(127)) // np.uint16(255)).astype(np.uint8)


def _cut_gray(color: Stored) -> Pixels:
    """The high byte of the gray of 16-bit colors, as libpng makes it: weighed with all bits, and rounded."""
    red, green, blue, _, bits = _GRAY_WEIGHTS["libpng"]
    gray: NDArray[np.uint32] = color[..., 0] * np.uint32(red)
    gray += color[..., 1] * np.uint32(green)
    gray += color[..., 2] * np.uint32(blue)
    gray += np.uint32(1 << (bits - 1))
    gray >>= np.uint32(bits + 8)
    return gray.astype(np.uint8)


def _to_gray(red: Pixels, green: Pixels, blue: Pixels, *, rule: str) -> Pixels:
    """Weigh the colors by one of `_GRAY_WEIGHTS`, Rec. 601 unless libpng's."""
    *weights, half, bits = _GRAY_WEIGHTS.get(rule, _GRAY_WEIGHTS["rec601"])
    gray = red * np.uint32(weights[0])
    gray += green * np.uint32(weights[1])
    gray += blue * np.uint32(weights[2])
    gray += np.uint32(half)
    gray >>= np.uint32(bits)
    return gray.astype(np.uint8)
