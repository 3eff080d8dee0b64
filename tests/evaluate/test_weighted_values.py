"""The values of a resample: the same bits as summed over every probability, whatever is computed with it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.evaluate.test_metrics import draw
from wetread.evaluate.metrics import draw_weights, measure, measure_differences
from wetread.evaluate.weighted_values import PreparedSample, compute_each, compute_values, rank_images
from wetread.runtime.model.spec import ModelSpec


def sum_over_all_probabilities(scores: np.ndarray, inside: np.ndarray, weights: np.ndarray) -> list[float]:
    """Area under the ROC curve and average precision, with a term for each distinct probability."""
    level = np.unique(scores, return_inverse=True)[1]
    positives = np.bincount(level, weights=inside * weights)
    negatives = np.bincount(level, weights=~inside * weights)
    below = np.cumsum(negatives) - negatives
    auc = (positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum())
    hits, false = np.cumsum(positives[::-1]), np.cumsum(negatives[::-1])
    precision = hits / np.maximum(hits + false, np.finfo(float).tiny)
    return [auc, (positives[::-1] * precision).sum() / positives.sum()]


def prepare(seed: int, *, labels: int, steps: int) -> tuple[PreparedSample, np.ndarray, np.ndarray]:
    probabilities, truth = draw(seed, images=500, labels=labels, steps=steps)
    spec = ModelSpec(labels=tuple("abcdefghijkl"[:labels]))
    return PreparedSample.of(probabilities, truth, spec), probabilities, truth


@pytest.mark.parametrize(("labels", "steps"), [(2, 40), (12, 40), (12, 100_003)], ids=["two", "ties", "many"])
def test_rankings_of_resamples_have_the_bits_of_sums_over_all_probabilities(labels: int, steps: int) -> None:
    prepared, probabilities, truth = prepare(1, labels=labels, steps=steps)
    weightings = np.stack(list(draw_weights(500, None, resamples=20, seed=0)))
    for label in range(labels):
        found = np.stack(rank_images(prepared, label, weightings), axis=1)
        for values, weights in zip(found.tolist(), weightings, strict=True):
            expected = sum_over_all_probabilities(probabilities[:, label], truth == label, weights)
            assert values == expected


def test_images_that_stand_for_parts_of_others_are_weighed_as_scikit_learn_does() -> None:
    prepared, probabilities, truth = prepare(2, labels=12, steps=40)
    weights = np.random.default_rng(0).random(500) * 100
    for label in range(12):
        auc, precision = (float(value[0]) for value in rank_images(prepared, label, weights[None]))
        scores, inside = probabilities[:, label], truth == label
        assert [auc, precision] == pytest.approx(
            sum_over_all_probabilities(scores, inside, weights), rel=1e-12
        )
        assert auc == pytest.approx(roc_auc_score(inside, scores, sample_weight=weights), rel=1e-12)
        assert precision == pytest.approx(
            average_precision_score(inside, scores, sample_weight=weights), rel=1e-12
        )


@pytest.mark.parametrize("labels", [2, 12])
def test_resamples_have_the_same_values_together_and_alone(labels: int) -> None:
    prepared, _, _ = prepare(3, labels=labels, steps=997)
    weightings = np.stack(list(draw_weights(500, None, resamples=40, seed=0)))
    weightings[0] = prepared.truth == 0  # of the other labels no image is left
    together = compute_each(prepared, weightings)
    for values, weights in zip(together, weightings, strict=True):
        np.testing.assert_equal(values, compute_values(prepared, weights))


def test_intervals_do_not_depend_on_how_many_resamples_are_computed_together(monkeypatch) -> None:
    probabilities, truth = draw(4, images=100, labels=12)
    spec, other = ModelSpec(labels=tuple("abcdefghijkl")), draw(5, images=100, labels=12)[0]

    def compute() -> tuple[object, object]:
        differences = measure_differences((probabilities, other), truth, (spec, spec), resamples=70)
        return measure(probabilities, truth, spec, resamples=70).intervals, differences

    blocks = compute()
    monkeypatch.setattr("wetread.evaluate.metrics._CELLS", 1)
    assert compute() == blocks
