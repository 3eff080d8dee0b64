from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wetread.errors import ConfigError, DatasetError
from wetread.evaluate.threshold import Rule, choose_band, choose_threshold, parse_rule

SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9], np.float32)
TRUTH = np.array([0, 0, 1, 0, 1, 0, 1, 1], bool)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("balanced", Rule(kind="balanced")),
        ("sensitivity>=0.95", Rule(kind="sensitivity", value=0.95)),
        ("specificity >= .9", Rule(kind="specificity", value=0.9)),
        ("cost 5:1", Rule(kind="cost", value=5)),
        ("cost 1:4", Rule(kind="cost", value=0.25)),
        ("cost 5:1 at prevalence 0.4", Rule(kind="cost", value=5, prevalence=0.4)),
        ("fixed 0.5", Rule(kind="fixed", value=0.5)),
    ],
)
def test_rules_have_names_that_read_back(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    "text",
    ["", "best", "sensitivity", "sensitivity>=1.2", "fixed 2", "cost 0:1", "cost 5", "sensitivity>=0.9 "],
)
def test_other_rules_are_refused(text: str) -> None:
    if text.strip() != text:
        assert parse_rule(text) == Rule(kind="sensitivity", value=0.9)
        return
    with pytest.raises(ConfigError, match="There is no threshold rule|The number in a threshold rule"):
        parse_rule(text)


def test_a_prevalence_goes_with_a_rule_that_it_changes() -> None:
    assert parse_rule("cost 1:1", prevalence=0.4) == Rule(kind="cost", value=1, prevalence=0.4)
    for rule, prevalence in (("balanced", 0.4), ("sensitivity>=0.9", 0.4), ("cost 5:1", 1.0)):
        with pytest.raises(ConfigError, match="prevalence"):
            parse_rule(rule, prevalence=prevalence)


@pytest.mark.parametrize(
    ("rule", "between"),
    [
        ("sensitivity>=1", (0.2, 0.3)),
        ("sensitivity>=0.75", (0.4, 0.6)),
        ("sensitivity>=0.5", (0.7, 0.8)),
        ("specificity>=1", (0.7, 0.8)),
        ("specificity>=0.75", (0.4, 0.6)),
        ("balanced", (0.4, 0.6)),  # as good as between 0.2 and 0.3, and wider
        ("cost 5:1", (0.2, 0.3)),
        ("cost 1:5", (0.7, 0.8)),
        ("cost 1:1 at prevalence 0.9", (0.2, 0.3)),
        ("cost 1:1 at prevalence 0.1", (0.7, 0.8)),
        ("fixed 0.25", (0.2, 0.3)),
    ],
)
def test_each_rule_chooses_its_place(rule: str, between: tuple[float, float]) -> None:
    low, high = between
    assert low < choose_threshold(SCORES, TRUTH, parse_rule(rule)) <= high


def measure_rates(scores: np.ndarray, positive: np.ndarray, threshold: float) -> tuple[float, float]:
    said = scores >= np.float32(threshold)
    return float(said[positive].mean()), float((~said)[~positive].mean())


drawn = given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 60),
    steps=st.sampled_from([3, 20, 10**9]),
    value=st.floats(0.05, 1),
)


def draw(seed: int, count: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    positive = random.random(count) < 0.6
    scores = 1 / (1 + np.exp(-random.normal(positive * 2.0 - 1, 1 if seed % 2 else 9)))
    scores = (np.round(scores * steps) / steps).astype(np.float32)
    assume(positive.any() and not positive.all())
    return scores, positive


def list_thresholds(scores: np.ndarray) -> list[float]:
    return [*np.unique(scores).tolist(), *([1.0] if scores.max() < 1 else [])]


@drawn
def test_a_rate_is_kept_and_the_other_is_the_best_that_is_left(
    seed: int, count: int, steps: int, value: float
) -> None:
    scores, positive = draw(seed, count, steps)
    every = [measure_rates(scores, positive, t) for t in list_thresholds(scores)]
    found = choose_threshold(scores, positive, Rule(kind="sensitivity", value=value))
    sensitivity, specificity = measure_rates(scores, positive, found)
    assert sensitivity >= value - 1e-9
    assert specificity == max(s for rate, s in every if rate >= value - 1e-9)
    able = [rate for rate, s in every if s >= value - 1e-9]
    if not able:
        with pytest.raises(DatasetError, match="too many negative images have a score of 1"):
            choose_threshold(scores, positive, Rule(kind="specificity", value=value))
        return
    found = choose_threshold(scores, positive, Rule(kind="specificity", value=value))
    sensitivity, specificity = measure_rates(scores, positive, found)
    assert specificity >= value - 1e-9 and sensitivity == max(able)


@drawn
def test_balanced_and_cost_are_the_best_of_all_thresholds(
    seed: int, count: int, steps: int, value: float
) -> None:
    scores, positive = draw(seed, count, steps)
    every = [measure_rates(scores, positive, t) for t in list_thresholds(scores)]
    balanced = sum(measure_rates(scores, positive, choose_threshold(scores, positive, Rule(kind="balanced"))))
    assert balanced == pytest.approx(max(sum(rates) for rates in every))
    rule = Rule(kind="cost", value=5 * value, prevalence=0.3)

    def cost(rates: tuple[float, float]) -> float:
        return 5 * value * 0.3 * (1 - rates[0]) + 0.7 * (1 - rates[1])

    found = measure_rates(scores, positive, choose_threshold(scores, positive, rule))
    assert cost(found) == pytest.approx(min(cost(rates) for rates in every))


def test_one_label_alone_chooses_nothing() -> None:
    with pytest.raises(DatasetError, match="needs images of both"):
        choose_threshold(SCORES, np.ones(8, bool), Rule(kind="balanced"))


def count_inside(rule: str, *, threshold: float = 0.5) -> tuple[int, int]:
    band = choose_band(SCORES, TRUTH, threshold=threshold, rule=rule)
    low, high, limit = np.array([band.low, band.high, threshold], np.float32)
    inside, wrong = (low <= SCORES) & (high >= SCORES), (limit <= SCORES) != TRUTH
    assert band.low <= threshold <= band.high and band.rule == rule
    return int(inside.sum()), int((inside & wrong).sum())


def test_a_band_holds_what_its_rule_says() -> None:
    assert count_inside("images 0.25") == (2, 0)
    assert count_inside("images 1") == (8, 2)
    assert count_inside("errors 0.5") == (3, 1) or count_inside("errors 0.5") == (4, 2)
    assert count_inside("errors 1") == (4, 2)
    assert count_inside("width 0.1") == (0, 0)
    band = choose_band(SCORES, TRUTH, threshold=0.5, rule="width 1")
    assert (band.low, band.high) == pytest.approx((1 / (1 + np.e), np.e / (1 + np.e)))


@pytest.mark.parametrize("rule", ["images 0", "images 1.5", "errors", "0.05", ""])
def test_other_bands_are_refused(rule: str) -> None:
    with pytest.raises(ConfigError, match="images 0.05"):
        choose_band(SCORES, TRUTH, threshold=0.5, rule=rule)


def test_without_an_error_none_sets_a_band() -> None:
    with pytest.raises(DatasetError, match="images 0.05"):
        choose_band(SCORES, SCORES > 0.5, threshold=0.5, rule="errors 0.5")
