from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.train.drawn import configure_xray
from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train.batches import encode_targets
from wetread.train.config import FOCAL_GAMMA
from wetread.train.network import make_network, predict_probabilities, save_network, widen

CONFIG = configure_xray(architecture="tests.train.networks:tiny", size=20, epochs=4)
IMAGES = np.random.default_rng(0).integers(0, 256, (300, 20, 20, 1)).astype(np.uint8)


def step(model, count: int = 1) -> None:
    for _ in range(count):
        model.train_on_batch(IMAGES[:16].astype(np.float32) / 255, np.arange(16)[:, None] % 2)


@pytest.mark.parametrize(
    ("values", "rates"),
    [
        ({"schedule": "cosine"}, [0.001, 0.0005, 0.0]),
        ({"schedule": "constant"}, [0.001] * 3),
        ({"schedule": "cosine", "warmup": 1.0}, [0.0005, 0.001, 0.0]),
        ({"schedule": "constant", "warmup": 0.5}, [0.001] * 3),
        ({"schedule": "constant", "warmup": 1.5}, [0.001 / 3, 0.001 / 3 * (1 + 2 * 2 / 3), 0.001]),
    ],
)
def test_the_learning_rate_follows_its_schedule(values: dict, rates: list[float]) -> None:
    """At the start of the first and of the second epoch of two steps each, and at the end."""
    model = make_network(replace(CONFIG, epochs=2, **values), 1, steps=2)
    found = []
    for _ in range(3):
        found.append(float(model.optimizer.learning_rate))
        step(model, 2)
    assert found == pytest.approx(rates, abs=1e-9)


LOGITS = np.array([[1.5, -0.5, 0.25], [0.1, 0.2, -3.0]])
TRUTH = np.array([0, 2])


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["crossentropy", "focal"])
def test_losses_are_what_their_papers_say(outputs: int, smoothing: float, loss: str) -> None:
    """The loss of a network's outputs, beside the formula written out over all labels."""
    model = make_network(replace(CONFIG, loss=loss, label_smoothing=smoothing), outputs, steps=5)
    logits, truth = LOGITS[:, :outputs], np.minimum(TRUTH, max(outputs - 1, 1))
    found = float(model.loss(encode_targets(truth, outputs), logits.astype(np.float32)))
    probabilities = widen(logits, head="logits").astype(np.float64)
    labels = probabilities.shape[1]
    wanted = np.eye(labels)[truth] * (1 - smoothing) + smoothing / labels
    losses = -wanted * np.log(probabilities)
    if loss == "focal" and outputs == 1:
        right = wanted * probabilities + (1 - wanted) * (1 - probabilities)
        losses *= (1 - right) ** FOCAL_GAMMA
    elif loss == "focal":
        losses *= (1 - probabilities) ** FOCAL_GAMMA
    assert found == pytest.approx(losses.sum(axis=1).mean(), rel=1e-5)


def test_probabilities_do_not_depend_on_the_batch() -> None:
    model = make_network(CONFIG, 3, steps=5)
    rows = np.arange(299, -1, -1)
    whole = predict_probabilities(model, IMAGES, rows)
    assert whole.shape == (300, 3)
    assert whole.sum(axis=1) == pytest.approx(np.ones(300), abs=1e-6)
    assert predict_probabilities(model, IMAGES, rows[290:]) == pytest.approx(whole[290:], abs=1e-6)


@pytest.mark.parametrize(
    ("images", "size", "batches"), [(9, 9, 1), (256, 256, 1), (257, 129, 2), (300, 150, 2)]
)
def test_a_prediction_has_batches_of_one_size_and_hardly_an_image_twice(
    monkeypatch, images: int, size: int, batches: int
) -> None:
    model, sizes = make_network(CONFIG, 1, steps=5), []

    def predict(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return batch.mean(axis=(1, 2))

    monkeypatch.setattr(model, "predict_on_batch", predict)
    found = predict_probabilities(model, IMAGES, np.arange(images))
    assert sizes == [size] * batches
    means = (IMAGES[:images] / 255).mean(axis=(1, 2))[:, 0]
    assert found[:, 1] == pytest.approx(1 / (1 + np.exp(-means)), abs=1e-6)


def test_outputs_become_probabilities() -> None:
    logits = np.array([[-1000.0], [0.0], [2.0], [1000.0]], np.float32)
    expected = np.array([[1, 0], [0.5, 0.5], [1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))], [0, 1]])
    assert widen(logits, head="logits") == pytest.approx(expected, abs=1e-7)
    assert widen(np.array([[0.25]]), head="sigmoid").tolist() == [[0.75, 0.25]]
    assert widen(np.array([[0.0, np.log(3)]]), head="logits") == pytest.approx(np.array([[0.25, 0.75]]))
    assert widen(np.array([[0.5, 0.2, 0.3]]), head="softmax") == pytest.approx(np.array([[0.5, 0.2, 0.3]]))
    assert widen(logits, head="logits").dtype == np.float32


def test_a_network_is_saved_alone_and_answers_the_same(tmp_path: Path) -> None:
    keras = import_keras()
    model = make_network(CONFIG, 1, steps=5)
    step(model, 3)
    save_network(model, tmp_path / "model.keras", sample=IMAGES[:8])
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert not loaded.compiled
    images = IMAGES[:50].astype(np.float32) / 255
    assert loaded.predict(images, verbose=0) == pytest.approx(model.predict(images, verbose=0), abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_a_network_that_answers_otherwise_when_loaded_is_refused(tmp_path: Path, monkeypatch) -> None:
    keras = import_keras()
    model = make_network(CONFIG, 1, steps=5)
    other = make_network(CONFIG, 1, steps=5)
    step(other, 20)
    monkeypatch.setattr(keras.models, "load_model", lambda *a, **k: other)
    with pytest.raises(ConfigError, match="differ from the trained one's"):
        save_network(model, tmp_path / "model.keras", sample=IMAGES[:8])
    assert list(tmp_path.iterdir()) == []
