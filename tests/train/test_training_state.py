from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.train.drawn import configure_xray
from wetread.errors import ConfigError
from wetread.train.batches import Batch
from wetread.train.network import make_network
from wetread.train.training_state import Learner

CONFIG = configure_xray(architecture="tests.train.networks:tiny", size=20, epochs=4)
IMAGES = np.random.default_rng(0).random((16, 20, 20, 1), np.float32)
BATCH = Batch(IMAGES, np.arange(16) % 2, np.ones(16, np.float32), np.arange(16))


def make(outputs: int = 1, **values) -> Learner:
    config = replace(CONFIG, **values)
    return Learner(make_network(config, outputs, steps=5), ema=config.ema)


def learn(learner: Learner, steps: int = 1) -> None:
    for _ in range(steps):
        learner.learn(BATCH)


@pytest.mark.parametrize(
    ("ema", "best", "mixed"), [(0.0, False, False), (0.9, True, False), (0.9, False, True)]
)
def test_what_is_saved_brings_everything_back(ema: float, best: bool, mixed: bool) -> None:
    """Weights, batch norms' and our averages, dropout's seeds, the optimizer with the scale of its loss in
    mixed precision: the next step is the same."""
    first = make(ema=ema, mixed_precision=mixed)
    learn(first, 3)
    if best:
        first.keep_best()
    saved = {name: array.copy() for name, array in first.list_variables().items()}
    learn(first)
    second = make(ema=ema, mixed_precision=mixed)
    second.restore_variables(saved)
    learn(second)
    after = first.list_variables(), second.list_variables()
    assert after[0].keys() == after[1].keys()
    assert all(np.array_equal(after[0][name], after[1][name]) for name in after[0])
    assert any(not np.array_equal(after[0][name], saved[name]) for name in saved)
    assert len(second.best) == (len(second.model.weights) if best else 0)


def test_another_networks_variables_are_refused() -> None:
    saved = make().list_variables()
    with pytest.raises(ConfigError, match="architecture that the run began with"):
        make(outputs=3).restore_variables(saved)


def test_the_average_is_of_all_weights_and_starts_quickly() -> None:
    """By hand: the weights after each step, those of the batch norm too, each kept min(ema, (1+n)/(10+n))."""
    learner = make(ema=0.3)
    mean = [weight.copy() for weight in learner.model.get_weights()]
    for n in range(1, 6):
        learn(learner)
        kept = min(0.3, (1 + n) / (10 + n))
        mean = [kept * m + (1 - kept) * w for m, w in zip(mean, learner.model.get_weights(), strict=True)]
    weights = learner.model.get_weights()
    with learner.averaged():
        found = learner.model.get_weights()
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(found, mean, strict=True))
    assert any(not np.allclose(a, b, atol=1e-6) for a, b in zip(found, weights, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(learner.model.get_weights(), weights, strict=True))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_is_kept_is_the_best_or_the_last(ema: float) -> None:
    learner = make(ema=ema)
    learn(learner, 2)
    with learner.averaged():
        first = learner.model.get_weights()
        learner.keep_best()
    learn(learner, 2)
    with learner.averaged():
        last = learner.model.get_weights()
    for best, wanted in ((True, first), (False, last)):
        with learner.kept(best=best):
            assert all(np.array_equal(a, b) for a, b in zip(learner.model.get_weights(), wanted, strict=True))


def test_too_little_memory_for_a_step_is_said(monkeypatch) -> None:
    """As TensorFlow raises it where a GPU's memory does not suffice."""
    import tensorflow

    def fail(*arrays) -> float:
        raise tensorflow.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    learner = make()
    monkeypatch.setattr(learner, "_step", fail)
    with pytest.raises(ConfigError, match="16 images of 20 x 20. Give a smaller --batch-size, such as 4"):
        learner.learn(BATCH)
