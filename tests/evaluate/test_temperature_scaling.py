from __future__ import annotations

import numpy as np
import pytest

from wetread.evaluate.metrics import measure
from wetread.evaluate.temperature_scaling import (
    apply_temperature,
    doubt_temperature,
    fit_temperature,
    read_logits,
)
from wetread.runtime.model.spec import ModelSpec

THREE = ModelSpec(labels=("bacteria", "normal", "virus"))
TWO = ModelSpec(labels=("NORMAL", "PNEUMONIA"))


def draw_answers(labels: int, *, count: int, sureness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is right as often as it says, made `sureness` times too sure."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, labels))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (random.random((count, 1)) > honest.cumsum(axis=1)).sum(axis=1)
    said = np.exp(logits * sureness)
    return (said / said.sum(axis=1, keepdims=True)).astype(np.float32), truth


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("sureness", [0.4, 1.0, 3.0])
def test_the_temperature_is_how_much_too_sure_a_network_is(labels: int, sureness: float) -> None:
    probabilities, truth = draw_answers(labels, count=20_000, sureness=sureness, seed=1)
    assert fit_temperature(probabilities, truth) == pytest.approx(sureness, rel=0.05)


@pytest.mark.parametrize("spec", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("seed", range(5))
def test_it_lowers_the_calibration_error_of_patients_it_was_not_fitted_on(spec: ModelSpec, seed: int) -> None:
    fitted = draw_answers(len(spec.labels), count=400, sureness=3, seed=seed)
    fresh, truth = draw_answers(len(spec.labels), count=2000, sureness=3, seed=seed + 100)
    before = measure(fresh, truth, spec)
    after = measure(apply_temperature(fresh, fit_temperature(*fitted)).astype(np.float32), truth, spec)
    assert after.ece < before.ece / 2
    assert after.log_loss < before.log_loss and after.brier < before.brier
    assert after.accuracy == before.accuracy
    if spec is TWO:
        assert after.auc == pytest.approx(before.auc, abs=1e-5)


def test_it_is_the_least_of_the_log_loss() -> None:
    probabilities, truth = draw_answers(3, count=5000, sureness=2, seed=4)
    best = fit_temperature(probabilities, truth)

    def lose(temperature: float) -> float:
        return measure(apply_temperature(probabilities, temperature), truth, THREE).log_loss

    assert lose(best) < min(lose(best * 1.1), lose(best / 1.1))


def test_images_without_an_error_ask_for_no_certainty() -> None:
    """The log loss alone would send the temperature to 0."""
    logits = np.linspace(-3, 3, 40)
    probabilities = np.stack([1 / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits))], axis=1)
    found = fit_temperature(probabilities, (logits > 0).astype(int))
    assert 0.3 < found < 1


def test_dividing_the_logits_is_what_is_applied() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (50, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cooled = np.exp(logits / 1.7) / np.exp(logits / 1.7).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(apply_temperature(softmax, 1.7), cooled, rtol=1e-12)
    np.testing.assert_allclose(apply_temperature(cooled, 1 / 1.7), softmax, rtol=1e-12)
    assert np.isfinite(read_logits(np.array([[0.0, 1.0]]))).all()


def test_a_temperature_on_its_bound_is_doubted() -> None:
    """Sure and as often wrong as right; sure of nothing and always right; and neither."""
    sure = np.array([[0.99, 0.01], [0.01, 0.99]] * 20)
    unsure = 0.5 + (sure - 0.5) * 1e-3
    right, half = np.arange(40) % 2, np.arange(40) // 2 % 2
    for probabilities, truth, temperature, said in (
        (sure, half, 20.0, "says little about"),
        (unsure, right, 0.05, "hardly sure"),
    ):
        found = fit_temperature(probabilities, truth)
        assert found == temperature
        assert said in (doubt_temperature(found) or "")
        assert f"its bound, {temperature:g}" in (doubt_temperature(found) or "")
    assert doubt_temperature(fit_temperature(sure, right)) is None
    assert doubt_temperature(1.0) is None
