from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.images.dicom.reference import reference_gray
from wetread.errors import ImageError
from wetread.runtime.images.dicom.gray import GrayRule, Lookup, Window, apply_gray_rule, make_lookup

decimals = st.builds(
    lambda digits, places: Fraction(digits, 10**places), st.integers(-99999, 99999), st.integers(0, 4)
)
lookups = st.builds(
    lambda first, entries, bits: Lookup(first, tuple(min(e, (1 << bits) - 1) for e in entries), bits),
    st.integers(-300, 300),
    st.lists(st.integers(0, 65535), min_size=1, max_size=40),
    st.integers(8, 16),
)
windows = st.builds(
    Window, decimals, decimals.map(abs).filter(lambda w: w >= 1), st.sampled_from(["LINEAR", "LINEAR_EXACT"])
)
rules = st.builds(
    GrayRule,
    bits=st.integers(2, 9),
    signed=st.booleans(),
    modality=st.one_of(lookups, st.tuples(decimals.filter(bool), decimals)),
    voi=st.one_of(st.none(), lookups, windows),
    padding=st.one_of(st.none(), st.tuples(st.integers(-9, 9), st.integers(10, 30))),
    inverted=st.booleans(),
)


def all_values(rule: GrayRule) -> np.ndarray:
    return (np.arange(1 << rule.bits) + rule.lowest).astype(np.int32)


@settings(max_examples=150, deadline=None)
@given(rules)
def test_tables_are_what_the_standard_words(rule):
    stored = all_values(rule)
    np.testing.assert_array_equal(apply_gray_rule(stored, rule), reference_gray(stored, rule))


@settings(max_examples=30, deadline=None)
@given(decimals, decimals.map(abs).filter(bool), decimals.filter(bool))
def test_the_sigmoid_is_that_of_the_standard(center, width, slope):
    rule = GrayRule(bits=8, signed=True, modality=(slope, Fraction(0)), voi=Window(center, width, "SIGMOID"))
    stored = all_values(rule)
    expected = reference_gray(stored, rule).astype(int)
    # The reference is in floating point: it may fall on the other side of a half.
    assert np.abs(apply_gray_rule(stored, rule).astype(int) - expected).max() <= 1


def test_a_sigmoid_at_its_centre_is_exactly_half():
    rule = GrayRule(bits=8, signed=False, voi=Window(Fraction(100), Fraction(50), "SIGMOID"))
    levels = apply_gray_rule(np.array([0, 99, 100, 101, 255], np.int32), rule)
    assert levels.tolist() == [0, 122, 128, 133, 255]


def test_windows_by_hand():
    def levels(function: str, width: int) -> list[int]:
        rule = GrayRule(bits=12, signed=False, voi=Window(Fraction(2048), Fraction(width), function))
        return apply_gray_rule(np.array([0, 2047, 2048, 4095], np.int32), rule).tolist()

    # The standard's own example: c = 2048, w = 4096 is the identity on 12 bits.
    assert levels("LINEAR", 4096) == [0, 127, 128, 255]
    assert levels("LINEAR_EXACT", 4096) == [0, 127, 128, 255]
    assert levels("LINEAR", 1) == [0, 0, 255, 255]


def test_the_full_range_is_that_of_the_values_that_occur():
    stored = np.array([[100, 200, 300], [-5, 100, 300]], np.int32)
    rule = GrayRule(bits=16, signed=True, padding=(-10, 0))
    assert apply_gray_rule(stored, rule).tolist() == [[0, 128, 255], [0, 0, 255]]
    inverted = GrayRule(bits=16, signed=True, padding=(-10, 0), inverted=True)
    assert apply_gray_rule(stored, inverted).tolist() == [[255, 127, 0], [0, 255, 0]]


@pytest.mark.parametrize("inverted", [False, True])
def test_a_flat_picture_and_one_of_padding_alone(inverted):
    flat = np.full((2, 2), 7, np.int32)
    rule = GrayRule(bits=8, signed=False, inverted=inverted)
    assert apply_gray_rule(flat, rule).tolist() == [[255 * inverted] * 2] * 2
    padded = GrayRule(bits=8, signed=False, padding=(7, 7), inverted=inverted)
    assert apply_gray_rule(flat, padded).tolist() == [[0, 0], [0, 0]]


def test_a_negative_slope_and_huge_numbers_stay_exact():
    stored = np.array([0, 1, 2, 4095], np.int32)
    rule = GrayRule(bits=12, signed=False, modality=(Fraction(-1), Fraction(4095)))
    assert apply_gray_rule(stored, rule).tolist() == [255, 255, 255, 0]
    for scale in (Fraction(10) ** 60, Fraction(1, 10**60)):
        huge = GrayRule(
            bits=12,
            signed=False,
            modality=(scale, scale),
            voi=Window(2048 * scale, 4096 * scale, "LINEAR_EXACT"),
        )
        np.testing.assert_array_equal(apply_gray_rule(stored, huge), reference_gray(stored, huge))
        looked = GrayRule(bits=12, signed=False, modality=(scale, scale), voi=Lookup(0, (0, 128, 255), 8))
        np.testing.assert_array_equal(apply_gray_rule(stored, looked), reference_gray(stored, looked))
        ranged = GrayRule(bits=12, signed=False, modality=(scale, scale))
        np.testing.assert_array_equal(apply_gray_rule(stored, ranged), reference_gray(stored, ranged))


def test_lookup_tables_are_read_from_their_bytes():
    words = np.array([1, 2, 300], np.uint16)
    assert make_lookup([3, -4, 12], words.astype("<u2").tobytes(), little=True) == Lookup(-4, (1, 2, 300), 12)
    assert make_lookup([3, -4, 12], words.astype(">u2").tobytes(), little=False).entries == (1, 2, 300)
    assert make_lookup([3, 0, 8], b"\1\2\3\0", little=True) == Lookup(0, (1, 2, 3), 8)
    whole = make_lookup([0, 0, 16], np.arange(65536, dtype="<u2").tobytes(), little=True)
    assert (len(whole.entries), whole.entries[-1]) == (65536, 65535)


@pytest.mark.parametrize(
    ("descriptor", "data", "status"),
    [
        ([3, 0], b"123456", "malformed"),
        ([3, 0, 17], b"123456", "malformed"),
        ([3, 0, 16], b"12345", "malformed"),
    ],
)
def test_a_lookup_table_that_contradicts_itself_is_refused(descriptor, data, status):
    with pytest.raises(ImageError, match="lookup table") as caught:
        make_lookup(descriptor, data, little=True)
    assert caught.value.status == status
