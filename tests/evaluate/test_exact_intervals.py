"""Exact bounds where a bootstrap has no width, held to scipy's; a network with one answer."""

from __future__ import annotations

import numpy as np
import pytest

from wetread.evaluate.exact_intervals import bound_exactly, find_exact_intervals, find_only_answer
from wetread.evaluate.metrics import measure
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec

SPEC = ModelSpec(labels=("no", "yes"), pixels=PixelRecipe(height=8, width=8))


def judge(yes: list[float], truth: list[int], groups: list[str]):
    probabilities = np.array([[1 - p, p] for p in yes], np.float32)
    return measure(probabilities, np.array(truth), SPEC, groups=groups, resamples=50)


@pytest.mark.parametrize("patients", [1, 2, 7, 100])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_bounds_are_those_of_scipy(value: float, patients: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    wanted = stats.binomtest(int(value * patients), patients).proportion_ci(method="exact")
    assert bound_exactly(value, patients) == pytest.approx((wanted.low, wanted.high))


def test_intervals_count_patients_and_replace_only_what_has_no_width() -> None:
    truth, groups = [0, 0, 0, 1, 1, 0], ["a", "a", "b", "c", "d", "e"]
    found = judge([0.9, 0.9, 0.9, 0.9, 0.9, 0.9], truth, groups)
    exact = find_exact_intervals(found, np.array(truth), groups)
    assert exact == {"sensitivity": bound_exactly(1, 2), "specificity": bound_exactly(0, 3)}
    assert find_only_answer(found) == "yes"


def test_answers_that_differ_and_truth_of_one_label_are_no_single_answer() -> None:
    assert find_only_answer(judge([0.9, 0.1], [0, 1], ["a", "b"])) is None
    assert find_only_answer(judge([0.9, 0.9], [1, 1], ["a", "b"])) is None
