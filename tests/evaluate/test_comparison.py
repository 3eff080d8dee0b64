from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from wetread.errors import DatasetError
from wetread.evaluate.comparison import Contender, compare, run_delong, run_mcnemar
from wetread.evaluate.metrics import measure
from wetread.runtime.model.spec import ModelSpec

TWO = ModelSpec(labels=("NORMAL", "PNEUMONIA"))


def disagree(first: int, second: int, both: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of right and wrong with these many images that only one gets right."""
    one = [True] * first + [False] * second + [True] * both
    other = [False] * first + [True] * second + [True] * both
    return np.array(one), np.array(other)


@settings(max_examples=40, deadline=None)
@given(first=st.integers(0, 60), second=st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    found = run_mcnemar(*disagree(first, second))
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert (found.test, found.only_first, found.only_second) == ("exact binomial", first, second)
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_images_is_corrected_and_near_the_exact_one() -> None:
    found = run_mcnemar(*disagree(560, 480))
    assert found.test == "chi-squared, corrected"
    assert found.p_value == pytest.approx(stats.chi2.sf((80 - 1) ** 2 / 1040, 1), rel=1e-9)
    assert found.p_value == pytest.approx(stats.binomtest(560, 1040).pvalue, rel=0.01)


def test_mcnemar_known_values() -> None:
    """Agresti, Categorical Data Analysis: 150 and 86 approvals; z-squared without correction is 17.36."""
    found = run_mcnemar(*disagree(150, 86))
    assert found.p_value == pytest.approx(3.7e-5, rel=0.02)


def delong_by_pairs(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """DeLong's z and error from the definition: every pair of a positive and a negative."""
    placed = []
    for scores in (first, second):
        above = scores[truth][:, None] - scores[~truth][None, :]
        kernel = (above > 0) + 0.5 * (above == 0)
        placed.append((kernel.mean(axis=1), kernel.mean(axis=0)))
    yes = np.cov(np.stack([rows for rows, _ in placed])) / truth.sum()
    no = np.cov(np.stack([columns for _, columns in placed])) / (~truth).sum()
    contrast = np.array([1.0, -1.0])
    error = math.sqrt(contrast @ (yes + no) @ contrast)
    return (placed[0][0].mean() - placed[1][0].mean()) / error, error


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), grid=st.sampled_from([5, 1000]))
def test_delong_is_its_definition_ties_and_all(seed: int, grid: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.concatenate([[True, True, False, False], random.random(50) < 0.6])
    first, second = (np.round((truth * x + random.random(54)) * grid) / grid for x in (0.5, 0.2))
    found = run_delong(first, second, truth, label="x")
    z, error = delong_by_pairs(first, second, truth)
    assert found.first == pytest.approx(roc_auc_score(truth, first))
    assert found.second == pytest.approx(roc_auc_score(truth, second))
    assert (found.z, found.error) == pytest.approx((z, error))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_delong_of_models_that_rank_alike_tests_nothing() -> None:
    random = np.random.default_rng(0)
    scores, truth = random.random(40), random.random(40) < 0.5
    found = run_delong(scores, scores**3, truth, label="x")
    assert found.first == found.second
    assert math.isnan(found.z)
    assert math.isnan(found.p_value)
    assert math.isnan(run_delong(scores, scores, np.ones(40, bool), label="x").first)


def test_delong_promises_what_it_says() -> None:
    """Of two equally good models, about 5% of draws come out below p = 0.05."""
    random = np.random.default_rng(1)
    below = 0
    for _ in range(400):
        truth = random.random(120) < 0.5
        first, second = (truth + random.normal(size=120) for _ in range(2))
        below += run_delong(first, second, truth, label="x").p_value < 0.05
    assert 8 <= below <= 36


def contender(name: str, positive: np.ndarray, spec: ModelSpec = TWO) -> Contender:
    return Contender(name=name, spec=spec, probabilities=np.stack([1 - positive, positive], axis=1))


def test_two_models_with_differences_by_patient() -> None:
    random = np.random.default_rng(2)
    truth = (random.random(200) < 0.5).astype(int)
    good, bad = (np.clip(0.5 + (truth - 0.5) * x + random.normal(size=200) * 0.2, 0, 1) for x in (0.6, 0.2))
    patients = [f"p{i // 2}" for i in range(200)]
    found = compare(contender("a", good), contender("b", bad), truth, groups=patients, resamples=200)
    mine, other = (measure(contender("", x).probabilities, truth, TWO) for x in (good, bad))
    assert (found.images, found.patients, found.repeated) == (200, 100, 100)
    assert found.differences["accuracy"][0] == pytest.approx(mine.accuracy - other.accuracy)
    assert found.differences["auc"][0] == pytest.approx(found.delong[0].first - found.delong[0].second)
    difference, low, high = found.differences["accuracy"]
    assert 0 < low < difference < high
    assert found.mcnemar.only_first - found.mcnemar.only_second == round(difference * 200)
    swapped = compare(contender("b", bad), contender("a", good), truth, groups=patients, resamples=200)
    assert swapped.differences["accuracy"] == pytest.approx((-difference, -high, -low))
    assert swapped.mcnemar.p_value == found.mcnemar.p_value


def test_a_difference_that_no_resample_defines_has_no_interval() -> None:
    table = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    models = [Contender(name=n, spec=TWO, probabilities=table) for n in "xy"]
    truth = np.array([0, 1])
    seed = next(s for s in range(99) if len(set(np.random.default_rng(s).integers(0, 2, 2).tolist())) == 1)
    found = compare(*models, truth, groups=["a", "b"], resamples=1, seed=seed)
    assert found.to_dict()["differences"]["auc"] == [0.0, None, None]


def test_three_labels_have_a_test_each_and_null_is_json() -> None:
    random = np.random.default_rng(3)
    spec = ModelSpec(labels=("a", "b", "c"))
    tables = [random.dirichlet(np.ones(3), size=60) for _ in range(2)]
    truth = random.integers(0, 2, 60)  # nothing is c
    models = [Contender(name=n, spec=spec, probabilities=t) for n, t in zip("xy", tables, strict=True)]
    found = compare(*models, truth, groups=[str(i) for i in range(60)], resamples=0)
    assert [test.label for test in found.delong] == ["a", "b", "c"]
    plain = found.to_dict()
    assert plain["delong"][2]["p_value"] is None
    assert plain["differences"]["accuracy"][1:] == [None, None]
    assert found.repeated == 0


def test_models_with_other_labels_are_refused() -> None:
    positive, truth = np.array([0.1, 0.9]), np.array([0, 1])
    other = ModelSpec(labels=TWO.labels, positive="NORMAL")
    with pytest.raises(DatasetError, match="differ in their labels or in the positive one"):
        compare(
            contender("a", positive), contender("b", positive, other), truth, groups=["1", "2"], resamples=0
        )
