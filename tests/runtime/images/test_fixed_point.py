"""Fixed-point numbers, against floating point."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wetread.runtime.images.fixed_point import (
    ONE,
    cosine_of_half_turns,
    round_signed,
    round_to_bits,
    sinc_of_grid,
    sine_of_half_turns,
)


def to_fixed(*numbers: float) -> np.ndarray:
    return np.array([int(number * ONE) for number in numbers], dtype=object)


@given(st.floats(-6, 6))
def test_sines_are_those_of_the_mathematical_library(x):
    sine, cosine = sine_of_half_turns(to_fixed(x))[0], cosine_of_half_turns(to_fixed(x))[0]
    assert sine / ONE == pytest.approx(math.sin(math.pi * x), abs=1e-14)
    assert cosine / ONE == pytest.approx(math.cos(math.pi * x), abs=1e-14)


def test_a_sine_is_nothing_at_whole_half_turns():
    assert all(abs(value) <= 2**8 for value in sine_of_half_turns(to_fixed(-3, -1, 0, 1, 2, 5)))
    assert sine_of_half_turns(to_fixed(0.5, 1.5, -0.5)).tolist() == pytest.approx([ONE, -ONE, -ONE], abs=2**8)


@given(st.floats(-4, 4), st.floats(0.01, 0.9), st.integers(1, 6), st.integers(1, 6))
def test_a_grid_of_sinc_is_numpys(start, step, rows, columns):
    starts = [int((start + 0.3 * row) * ONE) for row in range(rows)]
    grid = np.array([[one + int(step * ONE) * k for k in range(columns)] for one in starts], dtype=object)
    found = np.array(sinc_of_grid(grid).tolist(), float) / ONE
    np.testing.assert_allclose(found, np.sinc(np.array(grid.tolist(), float) / ONE), atol=1e-13)


def test_sinc_is_one_at_zero():
    at_zero, at_one = sinc_of_grid(to_fixed(0, 1)[None])[0]
    assert at_zero == ONE and abs(at_one) < 2**8


@given(st.integers(1, 10**12), st.integers(1, 10**9))
def test_quotients_round_as_ieee_754_says(above, below):
    assert round_to_bits(Fraction(above, below), 53) == Fraction(above / below)
    if above < 1 << 24 and below < 1 << 24:
        assert round_to_bits(Fraction(above, below), 24) == Fraction(
            float(np.float32(above) / np.float32(below))
        )


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_sums_round_as_ieee_754_says(one, other):
    total = Fraction(one) + Fraction(other)
    if total == 0 or abs(total) > Fraction(1, 10**300):
        assert round_signed(total, 53) == Fraction(one + other)


def test_nothing_is_rounded_to_nothing():
    assert round_to_bits(Fraction(0), 24) == 0
