from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wetread.backend import import_keras
from wetread.errors import ConfigError
from wetread.train.config import TrainConfig
from wetread.train.network import (
    list_variables,
    make_network,
    predict_probabilities,
    restore_variables,
    save_network,
    widen,
)

CONFIG = TrainConfig(data="data", output="run", architecture="tests.train.networks:tiny", size=20, epochs=4)
IMAGES = np.random.default_rng(0).integers(0, 256, (300, 20, 20, 1)).astype(np.uint8)


def step(model, count: int = 1) -> None:
    for _ in range(count):
        model.train_on_batch(IMAGES[:16].astype(np.float32) / 255, np.arange(16)[:, None] % 2)


def test_what_is_saved_brings_everything_back() -> None:
    """Weights, batch norms' averages, dropout's seeds and the optimizer: the next step is the same."""
    first = make_network(CONFIG, 1, steps=5)
    step(first, 3)
    saved = {name: array.copy() for name, array in list_variables(first).items()}
    step(first)
    second = make_network(CONFIG, 1, steps=5)
    restore_variables(second, saved)
    step(second)
    after = list_variables(first), list_variables(second)
    assert after[0].keys() == after[1].keys()
    assert all(np.array_equal(after[0][name], after[1][name]) for name in after[0])
    assert any(not np.array_equal(after[0][name], saved[name]) for name in saved)


def test_another_networks_variables_are_refused() -> None:
    saved = list_variables(make_network(CONFIG, 1, steps=5))
    with pytest.raises(ConfigError, match="architecture that the run began with"):
        restore_variables(make_network(CONFIG, 3, steps=5), saved)


@pytest.mark.parametrize(("schedule", "rates"), [("cosine", [0.001, 0.0005, 0.0]), ("constant", [0.001] * 3)])
def test_the_learning_rate_follows_its_schedule(schedule: str, rates: list[float]) -> None:
    config = replace(CONFIG, epochs=2, schedule=schedule)
    model = make_network(config, 1, steps=2)
    found = []
    for _ in range(3):
        found.append(float(model.optimizer.learning_rate))
        step(model, 2)
    assert found == pytest.approx(rates, abs=1e-9)


def test_probabilities_do_not_depend_on_the_batch() -> None:
    model = make_network(CONFIG, 3, steps=5)
    rows = np.arange(299, -1, -1)
    whole = predict_probabilities(model, IMAGES, rows)
    assert whole.shape == (300, 3)
    assert whole.sum(axis=1) == pytest.approx(np.ones(300), abs=1e-6)
    assert predict_probabilities(model, IMAGES, rows[290:]) == pytest.approx(whole[290:], abs=1e-6)


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
    with pytest.raises(ConfigError, match="answer as the trained one"):
        save_network(model, tmp_path / "model.keras", sample=IMAGES[:8])
    assert list(tmp_path.iterdir()) == []
