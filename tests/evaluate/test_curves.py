from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from wetread.evaluate.curves import (
    bin_reliability,
    count_probabilities,
    estimate_share,
    trace_precision_recall,
    trace_roc,
)
from wetread.evaluate.metrics import measure
from wetread.runtime.model.spec import ModelSpec

TWO = ModelSpec(labels=("a", "b"))
THREE = ModelSpec(labels=("a", "b", "c"))


def draw(seed: int, *, images: int = 80, grid: int = 20) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = np.concatenate([[0, 1], random.integers(0, 2, images - 2)])
    positive = np.round(np.clip(truth * 0.3 + random.random(images) * 0.7, 0, 1) * grid) / grid
    return np.stack([1 - positive, positive], axis=1), truth


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), grid=st.sampled_from([5, 20, 10_000]))
def test_roc_and_precision_recall_are_scikit_learns(seed: int, grid: int) -> None:
    probabilities, truth = draw(seed, grid=grid)
    found = trace_roc(probabilities, truth, column=1, label="b")
    assert reference.auc(found.x, found.y) == pytest.approx(
        reference.roc_auc_score(truth, probabilities[:, 1])
    )
    false, hits, _ = reference.roc_curve(truth, probabilities[:, 1], drop_intermediate=False)
    assert set(zip(found.x, found.y, strict=True)) <= {*zip(false, hits, strict=True), (0.0, 0.0)}
    curve = trace_precision_recall(probabilities, truth, column=1, label="b")
    precision, recall, _ = reference.precision_recall_curve(truth, probabilities[:, 1])
    assert curve.x == pytest.approx(recall[:-1][::-1])
    assert curve.y == pytest.approx(precision[:-1][::-1])


@pytest.mark.parametrize("seed", [0, 1])
def test_weighted_curves_are_scikit_learns(seed: int) -> None:
    probabilities, truth = draw(seed)
    weights = np.random.default_rng(seed).uniform(0.5, 9, len(truth))
    found = trace_roc(probabilities, truth, column=1, label="b", weights=weights)
    score = probabilities[:, 1]
    expected = reference.roc_auc_score(truth, score, sample_weight=weights)
    assert reference.auc(found.x, found.y) == pytest.approx(expected)
    curve = trace_precision_recall(probabilities, truth, column=1, label="b", weights=weights)
    precision, recall, _ = reference.precision_recall_curve(truth, score, sample_weight=weights)
    assert curve.x == pytest.approx(recall[:-1][::-1])
    assert curve.y == pytest.approx(precision[:-1][::-1])


def test_the_operating_point_is_on_the_curve() -> None:
    probabilities, truth = draw(3)
    found = measure(probabilities, truth, TWO)
    curve = trace_roc(probabilities, truth, column=1, label="b")
    height = np.interp(1 - found.specificity, curve.x, curve.y, left=0)
    vertical = curve.y[np.isclose(curve.x, 1 - found.specificity)]
    assert found.sensitivity == pytest.approx(height, abs=1e-9) or (
        vertical.size and vertical.min() - 1e-9 <= found.sensitivity <= vertical.max() + 1e-9
    )


def test_a_curve_of_many_points_is_thinned_and_keeps_its_ends() -> None:
    probabilities, truth = draw(1, images=20_000, grid=10**7)
    curve = trace_precision_recall(probabilities, truth, column=1, label="b")
    assert len(curve.x) == 600
    assert curve.x[-1] == 1.0


def test_one_label_alone_has_no_roc() -> None:
    probabilities, _ = draw(0)
    assert len(trace_roc(probabilities, np.ones(80, int), column=1, label="b").x) == 0
    assert len(trace_precision_recall(probabilities, np.ones(80, int), column=0, label="a").x) == 0


def test_reliability_is_scikit_learns_and_adds_up_to_the_calibration_error() -> None:
    probabilities, truth = draw(5, images=300, grid=997)
    bins = bin_reliability(probabilities, truth, TWO)
    share, said = calibration_curve(truth, probabilities[:, 1], n_bins=10)
    assert [found.share for found in bins] == pytest.approx(share)
    assert [found.probability for found in bins] == pytest.approx(said)
    error = sum(found.images * abs(found.share - found.probability) for found in bins) / 300
    assert error == pytest.approx(measure(probabilities, truth, TWO).ece)


def test_reliability_of_many_labels_is_of_the_largest() -> None:
    random = np.random.default_rng(0)
    probabilities, truth = random.dirichlet(np.ones(3), 200), random.integers(0, 3, 200)
    bins = bin_reliability(probabilities, truth, THREE)
    error = sum(found.images * abs(found.share - found.probability) for found in bins) / 200
    assert error == pytest.approx(measure(probabilities, truth, THREE).ece)
    assert sum(found.images for found in bins) == 200


def test_wilson_by_the_book() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20."""
    assert estimate_share(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert estimate_share(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert estimate_share(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_every_probability_is_counted() -> None:
    counts = count_probabilities(np.array([0.0, 0.049, 0.05, 0.5, 1.0], np.float32))
    assert counts.sum() == 5
    assert (counts[0], counts[10], counts[19]) == (2, 1, 1)
