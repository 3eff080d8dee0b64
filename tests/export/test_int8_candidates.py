"""The search for an int8 form: what it takes, what it reverts, and when it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.export.networks import draw_lamp, toy_spec
from wetread.export import int8_candidates as module
from wetread.export.images import ExportImages, Images
from wetread.export.int8_candidates import search_int8
from wetread.export.judging import (
    Candidate,
    Gate,
    GateError,
    Judge,
    classify_all,
    measure_area,
    measure_auc_change,
)
from wetread.export.quantize import weighted_nodes
from wetread.runtime.images.pixels import resize
from wetread.runtime.scoring.classifier import Classifier


def draw_images(seeds: range) -> Images:
    drawn = [draw_lamp(seed) for seed in seeds]
    pixels = np.stack([resize(picture[..., None], toy_spec().pixels) for picture, _ in drawn])
    return Images(tuple(map(str, seeds)), pixels, np.array([target for _, target in drawn], np.intp))


@pytest.fixture(scope="module")
def images():
    return ExportImages(draw_images(range(1000, 1064)), draw_images(range(1064, 1264)))


@pytest.fixture(scope="module")
def judge(float32_model, images):
    keras = classify_all(Classifier(float32_model, device="cpu"), images.validation.pixels)
    return Judge(toy_spec(), images, keras.astype(np.float64), Gate())


def unbalance(model: onnx.ModelProto, channel: int, *, factor: float) -> onnx.ModelProto:
    """Make one channel `factor` times as large, and undo it in the next layer: the same network."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    arrays = {t.name: t for t in copy.graph.initializer}
    first, second = (node for node in copy.graph.node if node.op_type == "Conv")

    def change(name: str, index: tuple, by: float) -> None:
        array = numpy_helper.to_array(arrays[name]).copy()
        array[index] *= by
        arrays[name].CopyFrom(numpy_helper.from_array(array, name))

    change(first.input[1], np.s_[channel], factor)
    change(first.input[2], np.s_[channel], factor)
    change(second.input[1], np.s_[:, channel], 1 / factor)
    return copy


def test_the_best_form_that_holds_is_taken(float32_model, judge):
    model, rows = search_int8(onnx.load(float32_model), judge)
    assert [row.name for row in rows[:4]] == ["float32", "u8s8 minmax", "u8s8 percentile", "u8s8 mse"]
    (chosen,) = [row for row in rows if row.chosen]
    assert chosen.holds and chosen.safe and chosen.flips <= 1
    assert all(row.speed > 0 for row in rows)
    fastest = max(row.speed for row in rows[1:] if row.holds)
    assert chosen.speed >= 0.9 * fastest
    again = judge.measure(model, chosen.name, chosen.floats)
    assert dataclasses.replace(again, speed=chosen.speed, speedup=chosen.speedup, chosen=True) == chosen
    assert {row.floats for row in rows} >= {(), ("conv2d/Conv",), ("head/Gemm",)}


def test_exact_integers_leave_no_layer_before_the_last_in_float(float32_model, judge):
    _, rows = search_int8(onnx.load(float32_model), judge, exact_integers=True)
    assert {row.floats for row in rows} == {(), ("head/Gemm",)}
    strict = dataclasses.replace(judge, gate=Gate(max_flips=-1))
    with pytest.raises(GateError) as caught:
        search_int8(onnx.load(float32_model), strict, exact_integers=True)
    assert {row.floats for row in caught.value.candidates} == {(), ("head/Gemm",)}


def test_a_network_that_quantizes_badly_is_reverted_or_refused(float32_model, judge):
    """One channel a thousand times the others leaves the others no steps; never is a bad file the result.

    Some channels carry the answer alone, and some are always 0: which ones, training decides, and it ends
    otherwise on another processor.
    """
    strict = dataclasses.replace(judge, gate=Gate(max_flips=0.0, max_auc_change=0.0005))
    bad_forms = 0
    for channel in range(16):
        bad = unbalance(onnx.load(float32_model), channel, factor=1000.0)
        assert np.abs(judge.measure(bad, "float32").max_difference) < 1e-3  # the same network in float
        try:
            model, rows = search_int8(bad, strict)
        except GateError as error:
            assert not any(row.holds for row in error.candidates[1:])
            bad_forms += 1
            continue
        (chosen,) = [row for row in rows if row.chosen]
        assert (chosen.flips - chosen.near_flips, chosen.holds) == (0, True)
        again = judge.measure(model, "again")
        assert again.flips == again.near_flips == chosen.near_flips
        if not rows[1].holds:
            assert chosen.name != rows[1].name
            bad_forms += 1
    assert bad_forms


def test_reverting_goes_on_until_the_gate_holds(float32_model, judge, monkeypatch):
    """With a judge that wants two layers in float, the two that hurt most go back, and no more."""
    order = weighted_nodes(onnx.load(float32_model))
    right = Judge.measure

    def measure(self, model, name, floats=()):
        found = right(self, model, name, floats)
        alone = {node: 1e-3 * (index + 1) for index, node in enumerate(order)}
        if name in alone:  # ranking: the first layers hurt most
            return dataclasses.replace(found, mean_difference=alone[name])
        return dataclasses.replace(found, holds=len(floats) == 2 and "head/Gemm" not in floats)

    monkeypatch.setattr(Judge, "measure", measure)
    _, rows = search_int8(onnx.load(float32_model), judge)
    (chosen,) = [row for row in rows if row.chosen]
    assert chosen.floats == (order[0], order[1])


def test_a_refusal_tells_every_figure(float32_model, judge):
    strict = dataclasses.replace(judge, gate=Gate(max_flips=-1))
    with pytest.raises(GateError, match=r"-100\.0% of the labels.*No int8 file was written") as caught:
        search_int8(onnx.load(float32_model), strict)
    rows = caught.value.candidates
    assert rows[0].name == "float32"
    layers = weighted_nodes(onnx.load(float32_model))
    assert {len(row.floats) for row in rows} == set(range(len(layers)))  # one more in float each time


def test_a_form_is_confirmed_on_images_that_chose_nothing(float32_model, judge):
    choosing, confirming = judge.split()
    one, other = (set(part.images.validation.names) for part in (choosing, confirming))
    assert not one & other and len(one | other) == len(judge.images.validation)
    for part in (choosing, confirming):
        assert np.bincount(part.images.validation.targets).min() >= len(one) // 4
        assert len(part.keras) == len(part.images.validation)
    model = onnx.load(float32_model)
    _, rows = search_int8(model, choosing, confirming=confirming)
    (chosen,) = [row for row in rows if row.chosen]
    assert (chosen.images, chosen.confirmed_images) == (len(one), len(other))
    never = dataclasses.replace(confirming, gate=Gate(max_flips=-1))
    with pytest.raises(
        GateError, match=r"of \d+ that chose nothing.*--max-flips.*--calibration.*float16"
    ) as caught:
        search_int8(model, choosing, confirming=never)
    tried = [row for row in caught.value.candidates if row.confirmed_images]
    assert 1 <= len(tried) <= 3 and not any(row.holds or row.chosen for row in tried)


def test_an_unsafe_form_does_not_hold(float32_model, judge, monkeypatch):
    from wetread.export import weights

    monkeypatch.setattr(weights, "PAIR_BOUND", 255)
    _, rows = search_int8(onnx.load(float32_model), judge)
    assert {row.name[:4] for row in rows[1:] if row.safe and row.holds} == {"u8u8"}
    assert not any(row.safe or row.holds for row in rows if row.name.startswith("u8s8"))


def row(name: str, *, flips: int, mean: float) -> Candidate:
    return Candidate(name, flips, 100, 0.0, mean, 0.1, 1000, True, True)


def test_among_fast_forms_the_most_faithful_is_taken(float32_model, judge, monkeypatch):
    speeds = iter([[100.0, 200.0, 195.0, 120.0]])
    monkeypatch.setattr(module, "time_forms", lambda models, judge: next(speeds))
    tried = {
        module.Settings(method="minmax"): row("fast", flips=1, mean=0.01),
        module.Settings(method="mse"): row("nearly as fast", flips=0, mean=0.02),
        module.Settings(weights="u8"): row("slow", flips=0, mean=0.001),
    }
    model = onnx.load(float32_model)
    _, rows = module._choose(model, judge, tried, dict.fromkeys(tried, model))
    assert [(r.name, r.chosen) for r in rows[1:]] == [
        ("fast", False),
        ("nearly as fast", True),
        ("slow", False),
    ]
    assert rows[2].speedup == pytest.approx(1.95)


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.integers(0, 5), min_size=4, max_size=30),
    data=st.data(),
)
def test_the_area_under_the_curve_is_that_of_scikit_learn(scores, data):
    from sklearn.metrics import roc_auc_score

    labels = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    if len(set(labels)) < 2:
        labels[0] = not labels[0]
    found = measure_area(np.array(scores, float), np.array(labels))
    assert found == pytest.approx(roc_auc_score(labels, scores))


def test_the_change_of_auc_is_that_of_the_label_it_changes_most():
    """One label's area falls as another's grows: a mean would call that next to no change."""
    targets = np.array([0, 0, 1, 1, 2, 2, -1])
    keras = np.array([[2, 1, 0], [2, 1, 0], [3, 0, 0], [3, 0, 0], [1, 0, 1], [1, 0, 1], [9, 9, 9]]) / 10
    found = np.array([[3, 1, 0], [3, 1, 0], [2, 0, 0], [2, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]]) / 10
    # By hand, of the 8 pairs of each label: all 4 against the second label turn for the first label; for the
    # second, 4 against the third go from even to lost.
    changes = (4 / 8, -2 / 8, 0)
    assert measure_auc_change(found, keras, targets) == changes[0]
    assert measure_auc_change(keras, found, targets) == -changes[0]
    assert measure_auc_change(found, keras, np.array([0] * 6 + [-1])) is None


def test_pairs_that_keras_hardly_tells_apart_do_not_change_the_auc():
    """Of 20 and 20 images one near pair that changes places moves the AUC by 0.0025, more than is allowed."""
    targets = np.repeat([0, 1], 20)
    keras = np.concatenate([np.linspace(0.1, 0.5, 20), np.linspace(0.505, 0.9, 20)])
    found = keras.copy()
    found[19], found[20] = keras[20], keras[19]
    two = [np.stack([1 - scores, scores], axis=1) for scores in (found, keras)]
    assert measure_area(found, targets == 1) - measure_area(keras, targets == 1) == pytest.approx(-1 / 400)
    assert measure_auc_change(*two, targets) == pytest.approx(0, abs=1e-12)
    found[19], found[21] = keras[21], keras[19]  # 0.026 apart: no near tie
    assert measure_auc_change(np.stack([1 - found, found], axis=1), two[1], targets) < -1 / 400


@given(data=st.data())
def test_the_change_of_auc_is_counted_by_pairs(data):
    count = data.draw(st.integers(2, 12))
    score = st.lists(st.integers(0, 40).map(lambda n: n / 40), min_size=count, max_size=count)
    found, keras = np.array(data.draw(score)), np.array(data.draw(score))
    targets = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    targets[:2] = 0, 1
    pairs = [(i, j) for i in np.flatnonzero(targets == 1) for j in np.flatnonzero(targets == 0)]
    changes = [
        (np.sign(found[i] - found[j]) - np.sign(keras[i] - keras[j])) / 2
        for i, j in pairs
        if abs(keras[i] - keras[j]) > 0.02
    ]
    two = [np.stack([1 - scores, scores], axis=1) for scores in (found, keras)]
    assert measure_auc_change(*two, targets) == pytest.approx(sum(changes) / len(pairs), abs=1e-9)
