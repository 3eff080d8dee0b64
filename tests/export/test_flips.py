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


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20_000), st.floats(1e-4, 0.5))
def test_what_is_allowed_is_what_the_share_gives_in_95_percent_of_cases(images, share):
    allowed = allow_flips(images, share)
    assert stats.binom.cdf(allowed, images, share) >= 0.95 - 1e-6
    assert allowed == 0 or stats.binom.cdf(allowed - 1, images, share) < 0.95 + 1e-6


def test_limits_of_what_is_allowed():
    assert [allow_flips(80, share) for share in (-0.1, 0.0, 0.005, 1.0)] == [-1, 0, 2, 80]
    assert bound_share(0, 40)[1] == pytest.approx(0.088, abs=1e-3)


def test_near_ties_are_counted_apart():
    spec = ModelSpec(labels=("a", "b"))
    keras = np.array([[0.51, 0.49], [0.7, 0.3], [0.1, 0.9], [0.49, 0.51]])
    found = np.array([[0.49, 0.51], [0.4, 0.6], [0.1, 0.9], [0.51, 0.49]], np.float32)
    count = count_flips(found, keras, spec)
    assert (count.flips, count.near, count.far, count.images) == (3, 2, 1, 4)
    three = ModelSpec(labels=("a", "b", "c"))
    assert measure_margins(np.array([[0.2, 0.5, 0.3]]), three) == pytest.approx([0.2])
