"""Exact scaling, against fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor, gcd

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.runtime.images import resampling as scaling
from wetread.runtime.images.resampling import PARTS, Span, scale


def weigh_by_fractions(span: Span, old: int) -> list[list[Fraction]]:
    """The share of each old pixel in each wanted new one, as the rule says it."""
    length = Fraction(span.length, PARTS)  # of the side, in old pixels
    step = length / span.size
    shares = []
    for new in range(span.first, span.first + span.wanted):
        if span.grows:
            centre = min(max((new + Fraction(1, 2)) * step - Fraction(1, 2), Fraction(0)), Fraction(old - 1))
            shares.append([max(1 - abs(centre - k), Fraction(0)) for k in range(old)])
        else:
            start, end = new * step, (new + 1) * step
            shares.append([max(min(end, k + 1) - max(start, k), Fraction(0)) / step for k in range(old)])
    return shares


def scale_by_fractions(image: np.ndarray, rows: Span, columns: Span) -> np.ndarray:
    """The same as `scale`, slowly: rounded half up only at the end."""
    down, across = weigh_by_fractions(rows, image.shape[0]), weigh_by_fractions(columns, image.shape[1])
    out = np.empty((rows.wanted, columns.wanted, image.shape[2]), np.uint8)
    for channel in range(image.shape[2]):
        plane = image[..., channel].tolist()
        between = [
            [sum(s * v for s, v in zip(share, row, strict=True) if s) for share in across] for row in plane
        ]
        for j, share in enumerate(down):
            for i in range(columns.wanted):
                total = sum((s * between[k][i] for k, s in enumerate(share) if s), Fraction(0))
                out[j, i, channel] = floor(total + Fraction(1, 2))
    return out


@st.composite
def draw_span(draw, old: int) -> Span:
    """Any side, whole or ending in a part of a pixel, to any other, all of it or a part."""
    size = draw(st.integers(1, 14))
    length = PARTS * old - draw(st.sampled_from([0, 0, 1, 4, 7]))
    first = draw(st.sampled_from([0, 0, size // 2]))
    return Span(length, size, first, draw(st.integers(1, size - first)) if first else size)


@st.composite
def draw_case(draw) -> tuple[np.ndarray, Span, Span]:
    height, width, channels = (
        draw(st.integers(1, 13)),
        draw(st.integers(1, 13)),
        draw(st.sampled_from([1, 3])),
    )
    kind = draw(st.sampled_from(["noise", "ends", "white"]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if kind == "ends":
        image = image // 128 * np.uint8(255)
    if kind == "white":
        image = np.maximum(image, 254)
    return image, draw(draw_span(height)), draw(draw_span(width))


@settings(max_examples=150, deadline=None)
@given(draw_case())
def test_scaling_is_exact(case):
    image, rows, columns = case
    np.testing.assert_array_equal(scale(image, rows, columns), scale_by_fractions(image, rows, columns))


@settings(max_examples=60, deadline=None)
@given(draw_case(), st.integers(1, 40))
def test_scaling_in_strips_and_in_wide_numbers_is_the_same(case, strip):
    image, rows, columns = case
    expected = scale(image, rows, columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "_STRIP_PIXELS", strip)
        patch.setattr(scaling, "_FLOAT_SAFE_PARTS", 0)
        np.testing.assert_array_equal(scale(image, rows, columns), expected)
        patch.setattr(scaling, "_WRAPS_BELOW", 0)
        np.testing.assert_array_equal(scale(image, rows, columns), expected)


def list_shortcuts(size: int, *, most: int) -> list[tuple[int, int]]:
    """Every side above `size` and its parts, where OpenCV's average may stand for ours."""
    sides = {
        parts * common: parts
        for common in range(1, size + 1)
        if size % common == 0
        for parts in range(1, most + 1, 2)
        if gcd(parts, size // common) == 1 and parts * common >= size
    }
    return sorted(sides.items())


def draw_hard(height: int, width: int, seed: int) -> list[np.ndarray]:
    """Pictures that come near ties, and bright ones, where floating point errs most."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (height, width, 1), dtype=np.uint8)
    return [noise, noise // 128 * np.uint8(255), np.maximum(noise, 253)]


def check_shortcut(height: int, width: int, size: int) -> None:
    rows, columns = (Span(PARTS * side, size, 0, size) for side in (height, width))
    for image in draw_hard(height, width, height * 7919 + width):
        quick = scale(image, rows, columns)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scaling, "_FLOAT_SAFE_PARTS", 0)
            np.testing.assert_array_equal(quick, scale(image, rows, columns))


@pytest.mark.parametrize("size", [16, 48, 64, 100, 224])
def test_opencvs_average_is_exact_wherever_it_is_taken(size):
    """Every square side, and some of the other pairs; the proof is in docs/explanation/resizing.md."""
    squares = [(side, side) for side, parts in list_shortcuts(size, most=15) if side <= 900]
    long = [(side, size) for side, _ in list_shortcuts(size, most=225)][:: 40 if size < 100 else 120]
    pairs = [(a, b) for a, p in list_shortcuts(size, most=45) for b, q in [(size * 5, 5)] if p * q <= 225][
        ::9
    ]
    for height, width in [*squares, *long, *pairs]:
        check_shortcut(height, width, size)


@pytest.mark.long
@pytest.mark.parametrize("size", [32, 64, 128])
def test_opencvs_average_is_exact_for_every_side(size):
    for side, _ in list_shortcuts(size, most=225):
        check_shortcut(side, size, size)
        check_shortcut(size, side, size)


def test_the_shortcut_is_taken_only_where_it_is_proven(monkeypatch):
    taken = []
    monkeypatch.setattr(
        cv2, "resize", lambda image, size, **_: taken.append(image.shape[:2]) or np.zeros(size[::-1])
    )
    image = np.zeros((225, 225, 1), np.uint8)
    for side, size in [
        (112, 64),
        (15, 1),
        (17, 1),
        (128, 64),
        (96, 64),
        (64, 128),
        (64, 64),
        (75, 5),
        (225, 15),
    ]:
        scale(image[:side, :side], Span(PARTS * side, size, 0, size), Span(PARTS * side, size, 0, size))
    assert taken == [(112, 112), (15, 15), (96, 96), (75, 75), (225, 225)]
    taken.clear()
    scale(image[:112, :112], Span(8 * 112 - 4, 64, 0, 64), Span(8 * 112, 64, 0, 64))
    scale(image[:112, :112], Span(8 * 112, 64, 2, 60), Span(8 * 112, 64, 0, 64))
    assert taken == []


def test_a_large_image_is_summed_in_strips_without_overflow():
    """255 times 9 million is past 2**31, and parts of coprime sides need 64 bits."""
    image = np.full((3001, 3001, 1), 255, np.uint8)
    image[:, 1500:] = 254
    found = scale(image, Span(PARTS * 3001, 64, 0, 64), Span(PARTS * 3001, 64, 0, 64))[..., 0]
    expected = np.full((64, 64), 254)
    expected[:, :31] = 255
    share = Fraction(1500 * 64 - 31 * 3001, 3001)  # of the column that both touch
    expected[:, 31] = floor(254 + share + Fraction(1, 2))
    np.testing.assert_array_equal(found, expected)
