"""Which part of a picture a loader other than wetread scales, to which size, and where it stands.

Cropping cuts first and scales then; the sides are those of Keras' `keep_aspect_ratio` (Pillow) and
`crop_to_aspect_ratio`, `pad_to_aspect_ratio` (TensorFlow, whose float32 decides what a quotient rounds to).
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from wetread.runtime.images.fixed_point import round_to_bits
from wetread.runtime.images.kernels import Side
from wetread.runtime.images.recipe import PILLOW, PixelRecipe, find_family

_FLOAT32 = 24


class Frame(NamedTuple):
    """How the rows and columns of an upright picture are scaled, and where the result stands on black."""

    rows: Side
    columns: Side
    top: int = 0
    left: int = 0


def frame_picture(height: int, width: int, recipe: PixelRecipe) -> Frame:
    """Frame an upright picture for a recipe whose kernel is Pillow's or TensorFlow's."""
    if recipe.resize == "crop":
        return _crop(height, width, recipe)
    if recipe.resize == "fit":
        return _fit(height, width, recipe)
    return Frame(Side(height, 0, height, recipe.height), Side(width, 0, width, recipe.width))


def _crop(height: int, width: int, recipe: PixelRecipe) -> Frame:
    if find_family(recipe.kernel) == PILLOW:
        # Of a picture narrower than the proportions allow nothing is left, and Pillow scales that as well.
        kept = min(height, width * recipe.height // recipe.width)
        wide = min(width, height * recipe.width // recipe.height)
    else:
        kept = max(min(height, _divide_float32(width * recipe.height, recipe.width)), 1)
        wide = max(min(width, _divide_float32(height * recipe.width, recipe.height)), 1)
    top, left = (height - kept) // 2, (width - wide) // 2
    return Frame(Side(height, top, top + kept, recipe.height), Side(width, left, left + wide, recipe.width))


def _divide_float32(dividend: int, divisor: int) -> int:
    return int(_near(_near(Fraction(dividend)) / divisor))


def _near(value: Fraction) -> Fraction:
    return round_to_bits(value, _FLOAT32)


def _fit(height: int, width: int, recipe: PixelRecipe) -> Frame:
    ratio = max(_near(Fraction(width, recipe.width)), _near(Fraction(height, recipe.height)))
    tall, top = _fit_side(_near(height / ratio), recipe.height)
    wide, left = _fit_side(_near(width / ratio), recipe.width)
    return Frame(Side(height, 0, height, tall), Side(width, 0, width, wide), top, left)


def _fit_side(side: Fraction, whole: int) -> tuple[int, int]:
    """The new pixels of a side, and the black ones before it."""
    rest = max(whole - side, Fraction(0))
    return min(max(int(side), 1), whole), int(_near(rest) / 2)
