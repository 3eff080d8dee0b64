"""8-bit weights: near the float ones, and unable to saturate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wetread.export.weights import quantize_weight
from wetread.runtime.model.saturation import PAIR_BOUND, largest_pair

weights = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@settings(max_examples=150, deadline=None)
@given(weight=weights, axis=st.sampled_from([0, 1, 3]))
def test_no_two_weights_of_a_channel_sum_past_the_bound(weight, axis):
    integers, scales = quantize_weight(weight, axis, "s8")
    assert integers.dtype == np.int8
    assert largest_pair(integers, axis=axis) <= PAIR_BOUND
    shape = [1] * 4
    shape[axis] = -1
    error = np.abs(integers * scales.reshape(shape).astype(np.float64) - weight)
    assert (error <= 0.5001 * scales.reshape(shape)).all()


@settings(max_examples=100, deadline=None)
@given(weight=weights)
def test_unsigned_weights_stand_around_128(weight):
    integers, scales = quantize_weight(weight, 0, "u8")
    assert integers.dtype == np.uint8
    restored = (integers.astype(np.float64) - 128) * scales.reshape(-1, 1, 1, 1)
    assert (np.abs(restored - weight) <= 0.5001 * scales.reshape(-1, 1, 1, 1)).all()


def test_one_outlier_keeps_nearly_the_whole_range():
    """Halving every weight's range, as reduce_range does, would give this one 64 steps."""
    weight = np.array([[1.0, 0.001, -0.002, 0.0005]], np.float32)
    integers, _ = quantize_weight(weight, 0, "s8")
    assert integers[0, 0] >= 126


def test_a_floor_widens_the_scale_and_zeros_have_one():
    weight = np.array([[0.0, 0.0], [1.0, 1.0]], np.float32)
    integers, scales = quantize_weight(weight, 0, "s8", floor=np.array([0.5, 0.1]))
    assert scales == pytest.approx([0.5, 0.1])
    assert integers.tolist() == [[0, 0], [10, 10]]
