"""Whether folders' names speak against the order of labels: a sign test, beside scipy's, of any number."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from wetread.export.expectations import _is_clear, weigh_labels
from wetread.runtime.model.spec import ModelSpec


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 20_000), st.floats(0.5, 0.7))
def test_what_is_clear_is_what_a_sign_test_calls_so(images, share):
    wins = round(images * share)
    chance = binomtest(wins, images, alternative="greater").pvalue
    if chance != pytest.approx(1e-3, rel=1e-6):
        assert _is_clear(wins, images - wins) == (wins > images - wins and chance <= 1e-3)


@pytest.mark.parametrize("count", [10, 1_024, 5_000, 40_000])
def test_labels_are_weighed_on_any_number_of_images(count):
    """From 1,024 images on, whole numbers were too large for a float, and parity ended with a fault."""
    spec = ModelSpec(labels=("cat", "dog"))
    names = [f"{spec.labels[index % 2]}/{index}.png" for index in range(count)]
    right = np.eye(2)[np.arange(count) % 2] * 0.8 + 0.1
    start = time.thread_time()
    assert weigh_labels(names, right, spec).agrees
    assert weigh_labels(names, right[:, ::-1], spec).better
    assert time.thread_time() - start < 20  # seconds; exact sums took minutes


def test_few_images_tell_nothing():
    assert not _is_clear(9, 0) and _is_clear(10, 0)
    assert not _is_clear(10, 10) and not _is_clear(0, 50)
