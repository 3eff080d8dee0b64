from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wetread.errors import ConfigError, DatasetError
from wetread.evaluate import held_out
from wetread.evaluate.held_out import (
    EVERYTHING,
    FIT,
    HELD_OUT,
    OUT_OF_FOLD,
    HeldOut,
    OperatingRequest,
    fit_operating_point,
    read_held_out,
    set_operating_point,
)
from wetread.evaluate.metrics import measure
from wetread.evaluate.temperature_scaling import apply_temperature
from wetread.runtime.model.spec import Band, ModelSpec

TWO = ModelSpec(labels=("NORMAL", "PNEUMONIA"))
THREE = ModelSpec(labels=("a", "b", "c"))


def draw_patients(seed: int, *, patients: int = 300, sureness: float = 4.0) -> HeldOut:
    """Two or three images of each drawn patient, alike among themselves; answers that are too sure."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 4, patients)
    ill = random.random(patients) < 0.55
    owners = np.repeat(np.arange(patients), counts)
    logits = np.where(ill, 1.3, -1.3)[owners] + random.normal(0, 1, patients)[owners]
    logits = (logits + random.normal(0, 0.6, len(owners))) * sureness
    likely = 1 / (1 + np.exp(-logits))
    names = tuple(f"person{owner}" for owner in owners)
    return HeldOut(np.stack([1 - likely, likely], axis=1), ill[owners].astype(np.intp), names, "drawn")


def judge(spec: ModelSpec, found: HeldOut, *, resamples: int = 0):
    probabilities = apply_temperature(found.probabilities, spec.temperature).astype(np.float32)
    return measure(probabilities, found.truth, spec, groups=found.groups, resamples=resamples)


def write_predictions(path: Path, found: HeldOut, labels: tuple[str, ...], *, fold: bool = False) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "label", "group", *(["fold"] if fold else []), *(f"p_{x}" for x in labels)])
        for index, values in enumerate(found.probabilities):
            label, group = labels[found.truth[index]], found.groups[index]
            rows.writerow(
                [f"{index}.png", label, group, *([0] if fold else []), *map(repr, map(float, values))]
            )


@pytest.mark.parametrize("name", [HELD_OUT, OUT_OF_FOLD])
def test_predictions_are_read_back(tmp_path: Path, name: str) -> None:
    found = draw_patients(1)
    assert read_held_out(tmp_path, TWO.labels) is None
    write_predictions(tmp_path / name, found, TWO.labels, fold=name == OUT_OF_FOLD)
    again = read_held_out(tmp_path, TWO.labels)
    assert again is not None
    np.testing.assert_array_equal(again.probabilities, found.probabilities)
    np.testing.assert_array_equal(again.truth, found.truth)
    assert again.groups == found.groups
    with pytest.raises(DatasetError, match="p_<label>"):
        read_held_out(tmp_path, ("NORMAL", "other"))
    found.probabilities[3] = np.nan
    write_predictions(tmp_path / name, found, TWO.labels, fold=name == OUT_OF_FOLD)
    with pytest.raises(DatasetError, match="no probability, such as NaN"):
        read_held_out(tmp_path, TWO.labels)


@pytest.mark.parametrize(("kind", "rate"), [("sensitivity", 0.95), ("specificity", 0.9)])
def test_the_promised_rate_holds_on_other_patients_within_its_interval(
    monkeypatch: pytest.MonkeyPatch, kind: str, rate: float
) -> None:
    """Fitted on four fifths of drawn patients and judged on the fifth, twenty times: the promise lies in
    nearly all of the 95% intervals by patient, and the rates scatter around it."""
    monkeypatch.setattr(held_out, "_RESAMPLES", 0)  # intervals of the images it was fitted on: not needed
    held, rates = [], []
    for fold in range(20):
        fitted, fresh = draw_patients(fold, patients=1200), draw_patients(fold + 500)
        spec = fit_operating_point(TWO, fitted, OperatingRequest(temperature=FIT, rule=f"{kind}>={rate}"))
        assert spec.threshold_rule == f"{kind}>={rate:g}"
        assert rate <= getattr(judge(spec, fitted), kind) < rate + 0.01
        found = judge(spec, fresh, resamples=200)
        low, high = found.intervals[kind]
        held.append(low <= rate <= high)
        rates.append(getattr(found, kind))
    assert sum(held) >= 16
    assert np.mean(rates) == pytest.approx(rate, abs=0.015)


def test_everything_is_fitted_and_told() -> None:
    found, fresh = draw_patients(3), draw_patients(4)
    spec = fit_operating_point(TWO, found, EVERYTHING)
    assert spec.temperature > 1.5
    assert judge(spec, fresh).ece < judge(TWO, fresh).ece / 1.5
    assert judge(spec, fresh).log_loss < judge(TWO, fresh).log_loss
    told = spec.training["held_out"]
    own = judge(spec, found)
    assert told["from"] == "drawn" and told["patients"] == 300 and told["images"] == own.images
    assert told["sensitivity"][0] == pytest.approx(own.sensitivity, abs=1e-5)
    assert told["sensitivity"][1] < told["sensitivity"][0] < told["sensitivity"][2]
    assert told["calibration_error"] == pytest.approx([judge(TWO, found).ece, own.ece], abs=1e-5)
    assert told["uncertain"]["images"] == int(np.ceil(0.05 * own.images))
    assert 0 < told["uncertain"]["errors"] <= told["errors"] == own.images - np.trace(own.confusion)
    assert spec.uncertain is not None and spec.uncertain.low <= spec.threshold <= spec.uncertain.high
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_another_temperature_chooses_the_same_images_by_the_spec_s_own_rules() -> None:
    found = draw_patients(5)
    spec = fit_operating_point(TWO, found, replace(EVERYTHING, rule="cost 5:1", prevalence=0.3))
    warmer = fit_operating_point(spec, found, OperatingRequest(temperature=spec.temperature * 2))
    assert warmer.threshold_rule == spec.threshold_rule == "cost 5:1 at prevalence 0.3"
    assert warmer.threshold != spec.threshold
    before, after = judge(spec, found), judge(warmer, found)
    assert (after.sensitivity, after.specificity) == (before.sensitivity, before.specificity)
    assert warmer.uncertain is not None and warmer.uncertain.rule == "images 0.05"


def test_more_than_two_labels_have_a_temperature_alone() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (500, 3))
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = HeldOut(said, random.integers(0, 3, 500), tuple(map(str, range(500))), "drawn")
    spec = fit_operating_point(THREE, found, OperatingRequest(temperature=FIT))
    assert spec.temperature > 5  # the answers say nothing of the truth
    assert (spec.threshold, spec.uncertain) == (0.5, None)
    assert "sensitivity" not in spec.training["held_out"]
    with pytest.raises(ConfigError, match="two labels"):
        fit_operating_point(THREE, found, EVERYTHING)


def test_without_held_out_patients_only_numbers_are_taken(tmp_path: Path) -> None:
    assert set_operating_point(tmp_path, TWO, OperatingRequest()) is TWO
    given = OperatingRequest(temperature=1.5, rule="fixed 0.3")
    spec = set_operating_point(tmp_path, TWO, given)
    assert (spec.temperature, spec.threshold, spec.threshold_rule) == (1.5, 0.3, "fixed 0.3")
    assert "held_out" not in spec.training
    for request in (
        OperatingRequest(temperature=FIT),
        OperatingRequest(rule="balanced"),
        OperatingRequest(band="images 0.1"),
    ):
        with pytest.raises(DatasetError, match="--calibration-split"):
            set_operating_point(tmp_path, TWO, request)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prevalence": 0.4}, "prevalence needs a threshold rule"),
        ({"rule": "best"}, "rule such as"),
        ({"rule": "balanced", "prevalence": 0.4}, "cost A:B"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"temperature": "warm"}, "temperature must be above 0"),
    ],
)
def test_what_does_not_hold_together_is_refused(values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        OperatingRequest(**values)


def test_a_band_goes_around_its_threshold() -> None:
    with pytest.raises(ConfigError, match="contain the threshold"):
        replace(TWO, uncertain=Band(low=0.6, high=0.8, rule="images 0.05"))
    with pytest.raises(ConfigError, match="two labels"):
        replace(THREE, uncertain=Band(low=0.4, high=0.8, rule="images 0.05"))
