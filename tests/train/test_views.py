from __future__ import annotations

import numpy as np
import pytest

from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train.views import TEMPERATURE, ViewLearner, contrast

RANDOM = np.random.default_rng(3)


def compute_loss(projected: np.ndarray) -> tuple[float, float]:
    """SimCLR's loss as its paper writes it, pair by pair, in float64."""
    rows = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    count, losses, hits = len(rows), [], []
    for i in range(count):
        pair = (i + count // 2) % count
        alike = {k: rows[i] @ rows[k] / TEMPERATURE for k in range(count) if k != i}
        losses.append(-alike[pair] + np.log(sum(np.exp(value) for value in alike.values())))
        hits.append(max(alike, key=lambda k: alike[k]) == pair)
    return float(np.mean(losses)), float(np.mean(hits))


@pytest.mark.parametrize("pairs", [1, 2, 7])
def test_the_loss_is_that_of_the_paper(pairs):
    projected = RANDOM.normal(size=(2 * pairs, 5))
    loss, matched = contrast(projected.astype(np.float32))
    wanted = compute_loss(projected)
    assert (float(loss), float(matched)) == (pytest.approx(wanted[0], abs=1e-5), pytest.approx(wanted[1]))


def make_learner(last: str = "dense", *, seed: int = 1) -> ViewLearner:
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    hidden = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(hidden))
    outputs = keras.layers.Dense(1)(hidden)
    if last == "activation":
        outputs = keras.layers.Activation("sigmoid")(outputs)
    return ViewLearner(keras.Model(inputs, outputs), optimizer=keras.optimizers.AdamW(1e-2))


def test_views_of_one_image_are_told_from_others_and_the_last_layer_does_not_learn():
    learner = make_learner()
    last = [np.asarray(weight) for weight in learner.model.layers[-1].weights]
    images = RANDOM.random((16, 8, 8, 1)).astype(np.float32) * np.linspace(0.2, 1, 16)[:, None, None, None]
    images = images.astype(np.float32)
    found = [learner.learn(images, images[:, ::-1]) for _ in range(60)]
    assert found[-1][0] < found[0][0] - 0.5
    assert found[-1][1] > found[0][1]
    assert all(
        np.array_equal(a, np.asarray(b)) for a, b in zip(last, learner.model.layers[-1].weights, strict=True)
    )


def test_what_was_saved_goes_on_as_if_nothing_had_happened():
    images = RANDOM.random((8, 8, 8, 1)).astype(np.float32)
    whole, cut, later = make_learner(), make_learner(), make_learner(seed=2)
    for _ in range(2):
        whole.learn(images, images[:, ::-1])
        cut.learn(images, images[:, ::-1])
    later.restore_variables(cut.list_variables())
    assert later.learn(images, images[:, ::-1]) == whole.learn(images, images[:, ::-1])


def test_the_variables_of_another_network_are_refused():
    saved = make_learner().list_variables()
    saved["0000"] = saved["0000"][..., :1]
    with pytest.raises(ConfigError, match="not the architecture"):
        make_learner().restore_variables(saved)


def test_a_network_that_does_not_end_in_a_dense_layer_is_refused():
    with pytest.raises(ConfigError, match="must end in keras.layers.Dense"):
        make_learner("activation")


def test_a_network_without_a_body_that_learns_is_refused():
    keras = import_keras()
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(inputs)))
    with pytest.raises(ConfigError, match="nothing to train before its last layer"):
        ViewLearner(model, optimizer=keras.optimizers.AdamW(1e-2))
