"""Flips that count, and what so many images can show, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wetread.export.flips import allow_flips, bound_share, count_flips, measure_margins
from wetread.runtime.model.spec import ModelSpec


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1))
def test_an_interval_is_clopper_and_pearsons(images, share):
    count = round(share * images)
    expected = stats.binomtest(count, images).proportion_ci(0.95, method="exact")
    assert bound_share(count, images) == pytest.approx((expected.low, expected.high), abs=1e-6)


@given(st.integers(1, 20_000), st.integers(0, 10_000))
def test_what_is_allowed_is_the_share_of_the_images_and_no_more(images, parts):
    """Against whole numbers: a share of parts in 10,000."""
    assert allow_flips(images, parts / 10_000) == images * parts // 10_000


def test_a_file_that_flips_more_than_the_limit_does_not_pass_by_having_few_images():
    """2% true, 0.5% asked for, 80 images: a rule of what 0.5% may give by chance passed it 4 of 5 times."""
    passed = stats.binom.cdf(allow_flips(80, 0.005), 80, 0.02)
    assert passed < 0.2 < 0.75 < stats.binom.cdf(2, 80, 0.02)
    for images in (200, 400, 1_000, 2_000):
        assert stats.binom.cdf(allow_flips(images, 0.005), images, 0.02) < 0.1


def test_limits_of_what_is_allowed():
    assert [allow_flips(80, share) for share in (0.0, 0.005, 0.0125, 1.0)] == [0, 0, 1, 80]
    assert allow_flips(80, -0.1) < 0 and allow_flips(100, 0.29) == 29
    assert bound_share(0, 40)[1] == pytest.approx(0.088, abs=1e-3)


def test_near_ties_are_counted_apart():
    spec = ModelSpec(labels=("a", "b"))
    keras = np.array([[0.51, 0.49], [0.7, 0.3], [0.1, 0.9], [0.49, 0.51]])
    found = np.array([[0.49, 0.51], [0.4, 0.6], [0.1, 0.9], [0.51, 0.49]], np.float32)
    count = count_flips(found, keras, spec)
    assert (count.flips, count.near, count.far, count.images) == (3, 2, 1, 4)
    three = ModelSpec(labels=("a", "b", "c"))
    assert measure_margins(np.array([[0.2, 0.5, 0.3]]), three) == pytest.approx([0.2])


def test_what_is_no_probability_flips_whatever_the_label_and_is_no_near_tie():
    spec = ModelSpec(labels=("a", "b"))
    keras = np.array([[0.9, 0.1], [0.51, 0.49], [0.1, 0.9], [0.9, 0.1]])
    found = np.array([[np.nan, np.nan], [np.nan, np.nan], [0.0, np.inf], [0.9, 0.1]], np.float32)
    count = count_flips(found, keras, spec)
    assert (count.flips, count.near, count.far, count.unanswered) == (3, 0, 3, 3)
