from __future__ import annotations

import json
import math

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.errors import DatasetError
from wetread.evaluate.metrics import measure
from wetread.runtime.model.spec import ModelSpec

TWO = ModelSpec(labels=("NORMAL", "PNEUMONIA"))
THREE = ModelSpec(labels=("a", "b", "c"))


def draw(seed: int, *, images: int, labels: int, steps: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities on a coarse grid, so that ties occur, and a truth that holds every label."""
    random = np.random.default_rng(seed)
    counts = random.multinomial(steps, np.full(labels, 1 / labels), size=images)
    truth = np.concatenate([np.arange(labels), random.integers(0, labels, images - labels)])
    return counts / steps, truth


def test_a_small_example_by_hand() -> None:
    positive = np.array([0.9, 0.8, 0.3, 0.6, 0.2, 0.1, 0.4, 0.0])
    truth = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    found = measure(np.stack([1 - positive, positive], axis=1), truth, TWO, groups=list("aabbccdd"))
    assert found.confusion == ((4, 1), (1, 2))
    assert (found.images, found.patients, found.positive, found.threshold) == (8, 4, "PNEUMONIA", 0.5)
    assert found.accuracy == pytest.approx(6 / 8)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.specificity == pytest.approx(4 / 5)
    assert found.ppv == pytest.approx(2 / 3)
    assert found.npv == pytest.approx(4 / 5)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.auc == pytest.approx(13 / 15)
    assert found.per_label["NORMAL"].images == 5
    assert found.per_label["NORMAL"].sensitivity == found.specificity
    assert found.intervals == {}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), threshold=st.sampled_from([0.25, 0.5, 0.8]), flip=st.booleans())
def test_two_labels_agree_with_scikit_learn(seed: int, threshold: float, flip: bool) -> None:
    probabilities, truth = draw(seed, images=60, labels=2)
    spec = ModelSpec(labels=TWO.labels, threshold=threshold, positive="NORMAL" if flip else "PNEUMONIA")
    column = 0 if flip else 1
    yes, score = (truth == column).astype(int), probabilities[:, column]
    chosen = (score >= threshold).astype(int)
    found = measure(probabilities, truth, spec)
    expected = {
        "accuracy": reference.accuracy_score(yes, chosen),
        "balanced_accuracy": reference.balanced_accuracy_score(yes, chosen),
        "sensitivity": reference.recall_score(yes, chosen),
        "specificity": reference.recall_score(yes, chosen, pos_label=0),
        "f1": reference.f1_score(yes, chosen),
        "mcc": reference.matthews_corrcoef(yes, chosen),
        "auc": reference.roc_auc_score(yes, score),
        "average_precision": reference.average_precision_score(yes, score),
        "brier": reference.brier_score_loss(yes, score),
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-12)
    if chosen.any():
        assert found.ppv == pytest.approx(reference.precision_score(yes, chosen))
    if not chosen.all():
        assert found.npv == pytest.approx(reference.precision_score(yes, chosen, pos_label=0))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), labels=st.integers(3, 5))
def test_many_labels_agree_with_scikit_learn(seed: int, labels: int) -> None:
    probabilities, truth = draw(seed, images=80, labels=labels)
    spec = ModelSpec(labels=tuple("abcde"[:labels]))
    chosen = probabilities.argmax(axis=1)
    found = measure(probabilities, truth, spec)
    expected = {
        "accuracy": reference.accuracy_score(truth, chosen),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, chosen),
        "f1": reference.f1_score(truth, chosen, average="macro"),
        "mcc": reference.matthews_corrcoef(truth, chosen),
        "auc": reference.roc_auc_score(truth, probabilities, multi_class="ovr"),
        "average_precision": reference.average_precision_score(np.eye(labels)[truth], probabilities),
        "brier": float(((probabilities - np.eye(labels)[truth]) ** 2).sum(axis=1).mean()),
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(found.confusion, reference.confusion_matrix(truth, chosen))
    assert math.isnan(found.sensitivity)
    assert found.per_label["b"].auc == pytest.approx(reference.roc_auc_score(truth == 1, probabilities[:, 1]))
    assert found.per_label["b"].sensitivity == pytest.approx(reference.recall_score(truth == 1, chosen == 1))


def test_log_loss_agrees_with_scikit_learn() -> None:
    probabilities, truth = draw(3, images=50, labels=3, steps=997)
    clipped = np.maximum(probabilities, 1e-3)
    clipped /= clipped.sum(axis=1, keepdims=True)
    assert measure(clipped, truth, THREE).log_loss == pytest.approx(reference.log_loss(truth, clipped))


def test_calibration_error_by_hand() -> None:
    positive = np.array([0.95, 0.95, 0.95, 0.95, 0.15, 0.15])
    truth = np.array([1, 1, 1, 0, 0, 0])
    found = measure(np.stack([1 - positive, positive], axis=1), truth, TWO)
    assert found.ece == pytest.approx((4 * abs(0.95 - 3 / 4) + 2 * 0.15) / 6)


def test_what_is_not_defined_is_null_in_json() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    found = measure(probabilities, np.array([0, 0]), TWO, resamples=20)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    undefined = {name for name, value in values.items() if value is None}
    assert undefined == {"patients", "sensitivity", "ppv", "f1", "auc", "average_precision"}
    assert values["accuracy"] == values["specificity"] == values["balanced_accuracy"] == 1.0
    assert "auc" not in found.intervals


def test_intervals_are_by_patient() -> None:
    """Ten copies of each image say nothing new: by patient the interval stays, by image it shrinks."""
    probabilities, truth = draw(5, images=40, labels=2)
    patients = [str(n) for n in range(40)]
    once = measure(probabilities, truth, TWO, groups=patients, resamples=400)
    copied = np.repeat(probabilities, 10, axis=0), np.repeat(truth, 10)
    by_patient = measure(*copied, TWO, groups=list(np.repeat(patients, 10)), resamples=400)
    by_image = measure(*copied, TWO, resamples=400)
    assert by_patient.patients == 40
    assert by_patient.intervals == {name: pytest.approx(pair) for name, pair in once.intervals.items()}
    width = {id(m): m.intervals["accuracy"][1] - m.intervals["accuracy"][0] for m in (by_patient, by_image)}
    assert width[id(by_image)] < 0.5 * width[id(by_patient)]


def test_intervals_repeat_and_hold_the_value() -> None:
    probabilities, truth = draw(6, images=80, labels=3)
    first = measure(probabilities, truth, THREE, resamples=200, seed=4)
    assert first.intervals == measure(probabilities, truth, THREE, resamples=200, seed=4).intervals
    low, high = first.intervals["accuracy"]
    assert low < first.accuracy < high
    # The standard error of a proportion, from the textbook.
    error = math.sqrt(first.accuracy * (1 - first.accuracy) / 80)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.25)


@pytest.mark.parametrize(
    ("probabilities", "truth", "groups"),
    [
        (np.zeros((3, 3)), np.zeros(3, int), None),
        (np.zeros((2, 2)), np.zeros(3, int), None),
        (np.zeros((0, 2)), np.zeros(0, int), None),
        (np.full((3, 2), 0.5), np.zeros(3, int), ["a"]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(probabilities, truth, groups) -> None:
    with pytest.raises(DatasetError, match="must (have the shape|be a patient)"):
        measure(probabilities, truth, TWO, groups=groups)
