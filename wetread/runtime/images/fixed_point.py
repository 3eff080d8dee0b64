"""Numbers as whole multiples of 2**-60, so that every machine finds the same weights of a kernel.

Arrays have the dtype object: Python's whole numbers, which neither round nor overflow.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 60
ONE = 1 << BITS
_HALF = ONE >> 1
_PI = 3622009729038561421  # pi * 2**60, rounded
# Terms of the sine's series: from 0 to half a turn's half the last one is below 2**-60.
_TERMS = 13

Fixed = NDArray[Any]  # dtype object, of int


def multiply(left: Fixed, right: Fixed | int) -> Fixed:
    """The product of two fixed-point numbers, rounded half up."""
    product: Any = left * right + _HALF
    return product >> BITS  # type: ignore[no-any-return]


def sine_of_half_turns(half_turns: Fixed) -> Fixed:
    """sin(pi x) of fixed-point x, by its series, within 2**-56."""
    whole = half_turns >> BITS
    part = half_turns - (whole << BITS)
    angle = multiply(np.where(part > _HALF, ONE - part, part), _PI)
    square = multiply(angle, angle)
    term, total = angle, angle
    for k in range(1, _TERMS):
        term = -multiply(term, square) // (2 * k * (2 * k + 1))
        total = total + term
    return np.where(whole % 2 == 1, -total, total)


def sine_of_grid(half_turns: Fixed) -> Fixed:
    """sin(pi x) of fixed-point x (N, M), in whose rows the same steps follow another start.

    By the sine of a sum, so that N + M series are enough.
    """
    start, steps = half_turns[:, :1], half_turns[:1] - half_turns[:1, :1]
    total: Any = sine_of_half_turns(start) * cosine_of_half_turns(steps)
    total = total + cosine_of_half_turns(start) * sine_of_half_turns(steps)
    return (total + _HALF) >> BITS  # type: ignore[no-any-return]


def sinc_of_grid(x: Fixed) -> Fixed:
    """sin(pi x) / (pi x), 1 at 0, of a grid as in `sine_of_grid`."""
    zero = x == 0
    quotient: Any = (sine_of_grid(x) << BITS) // np.where(zero, ONE, multiply(x, _PI))
    return np.where(zero, ONE, quotient)


def cosine_of_half_turns(half_turns: Fixed) -> Fixed:
    """cos(pi x) of fixed-point x."""
    return sine_of_half_turns(half_turns + _HALF)


def round_to_bits(value: Fraction, bits: int) -> Fraction:
    """The nearest number of so many significant binary digits, ties to even: what IEEE 754 arithmetic gives.

    24 bits are float32's, 53 float64's. `value`: 0 or more, and neither too small nor too large for them.
    """
    if not value:
        return value
    above, below = value.numerator, value.denominator
    shift = above.bit_length() - below.bit_length() - bits
    above, below = (above, below << shift) if shift >= 0 else (above << -shift, below)
    if above >= below << bits:
        shift, below = shift + 1, below << 1
    digits, rest = divmod(above, below)
    digits += 2 * rest > below or (2 * rest == below and digits % 2 == 1)
    return Fraction(digits << shift) if shift >= 0 else Fraction(digits, 1 << -shift)


def round_signed(value: Fraction, bits: int) -> Fraction:
    """The same for a number of either sign."""
    return -round_to_bits(-value, bits) if value < 0 else round_to_bits(value, bits)
