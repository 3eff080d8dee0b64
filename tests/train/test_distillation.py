from __future__ import annotations

import numpy as np
import pytest

from wetread.train.batches import encode_targets
from wetread.train.distillation import join_targets, make_distillation_loss, soften

TARGETS = np.array([0, 2, 1, 2, 0], np.intp)


def logits_of(seed: int, labels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (5, labels)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits.astype(np.float64))
    return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


def compute(loss, outputs: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss and its gradient by the network's outputs."""
    import tensorflow

    variable = tensorflow.Variable(outputs)
    with tensorflow.GradientTape() as tape:
        value = loss(targets, variable)
    return float(value), np.asarray(tape.gradient(value, variable))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_gradient_is_that_of_kerass_own_distillation(temperature: float) -> None:
    import keras
    from keras.distillation import LogitsDistillation

    teacher, student = logits_of(1), logits_of(2)
    answers = soften([softmax(teacher)], temperature=temperature)
    targets = join_targets(encode_targets(TARGETS, 3), answers)
    hard = keras.losses.CategoricalCrossentropy(from_logits=True)
    own = make_distillation_loss(hard, 3, head="logits", share=1.0, temperature=temperature)
    theirs = LogitsDistillation(temperature=temperature, loss=keras.losses.KLDivergence())
    _, gradient = compute(own, student, targets)
    _, expected = compute(lambda _, z: theirs.compute_loss(teacher, z), student, targets)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_one_output_is_as_two(temperature: float) -> None:
    import keras
    from keras.distillation import LogitsDistillation

    teacher, student = logits_of(3, 1), logits_of(4, 1)
    pairs = [np.concatenate([0 * logits, logits], axis=1) for logits in (teacher, student)]
    answers = soften([softmax(pairs[0])], temperature=temperature)
    targets = join_targets(encode_targets(np.minimum(TARGETS, 1), 1), answers)
    hard = keras.losses.BinaryCrossentropy(from_logits=True)
    own = make_distillation_loss(hard, 1, head="logits", share=1.0, temperature=temperature)
    _, gradient = compute(own, student, targets)
    theirs = LogitsDistillation(temperature=temperature, loss=keras.losses.KLDivergence())
    _, expected = compute(lambda _, z: theirs.compute_loss(pairs[0], z), pairs[1], targets)
    np.testing.assert_allclose(gradient, expected[:, 1:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_labels_have_the_rest_of_the_loss(share: float) -> None:
    import keras

    student, answers = logits_of(5), soften([softmax(logits_of(6))], temperature=2.0)
    targets = join_targets(encode_targets(TARGETS, 3), answers)
    hard = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    values = {
        part: compute(
            make_distillation_loss(hard, 3, head="logits", share=part, temperature=2.0), student, targets
        )[0]
        for part in (1e-9, share, 1.0)
    }
    alone = float(hard(encode_targets(TARGETS, 3), student))
    assert values[1e-9] == pytest.approx(alone, rel=1e-5)
    assert values[share] == pytest.approx((1 - share) * alone + share * values[1.0], rel=1e-5)


@pytest.mark.parametrize(("head", "outputs"), [("softmax", 3), ("sigmoid", 1)])
def test_probabilities_learn_as_logits_do(head: str, outputs: int) -> None:
    import keras

    student = logits_of(7, outputs)
    labels = max(2, outputs)
    answers = soften([softmax(logits_of(8, labels))], temperature=2.0)
    targets = join_targets(encode_targets(np.minimum(TARGETS, labels - 1), outputs), answers)
    kind = keras.losses.CategoricalCrossentropy if outputs > 1 else keras.losses.BinaryCrossentropy
    made = softmax(student) if outputs > 1 else (1 / (1 + np.exp(-student))).astype(np.float32)
    values = [
        compute(
            make_distillation_loss(
                kind(from_logits=given == "logits"), outputs, head=given, share=0.5, temperature=2.0
            ),
            values,
            targets,
        )[0]
        for given, values in (("logits", student), (head, made))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_several_answers_are_averaged_as_logits() -> None:
    first, second = logits_of(9), logits_of(10)
    mean = soften([softmax(first), softmax(second)], temperature=2.0)
    np.testing.assert_allclose(mean, softmax((first + second) / 4), rtol=1e-4)
    sure = soften([np.array([[0.0, 1.0]], np.float32)], temperature=1.0)
    assert np.isfinite(sure).all()
    assert sure[0, 1] == pytest.approx(1, abs=1e-6)
