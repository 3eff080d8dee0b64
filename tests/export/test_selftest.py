"""The golden self-test: what export puts into a model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.export.networks import draw_lamp, toy_spec
from wetread.export.selftest import choose_inputs, measure_intensities
from wetread.runtime.images.pixels import resize
from wetread.runtime.model.golden_inputs import EVEN_INTENSITIES, MAX_INPUTS, draw_inputs
from wetread.runtime.scoring.classifier import Classifier


@pytest.fixture(scope="module")
def pixels():
    return np.stack([resize(draw_lamp(seed)[0][..., None], toy_spec().pixels) for seed in range(64)])


def test_intensities_are_quantiles_and_nothing_of_a_picture(pixels):
    found = measure_intensities(pixels)
    assert found == tuple(int(v) for v in np.rint(np.quantile(pixels, np.arange(17) / 16)))
    rng = np.random.default_rng(0)
    assert measure_intensities(rng.permutation(pixels.ravel()).reshape(pixels.shape)) == found
    assert measure_intensities(None) == EVEN_INTENSITIES


def test_inputs_reach_most_of_every_layers_range(float32_model, pixels):
    found = choose_inputs(onnx.load(float32_model), toy_spec().pixels, pixels)
    assert len(found.seeds) == len(set(found.seeds)) == MAX_INPUTS - 1
    assert found.coverage > 0.6


@pytest.mark.parametrize("name", ["float32_model", "int8_model"])
def test_answers_are_this_files_own_and_keras(request, name):
    classifier = Classifier(request.getfixturevalue(name), device="cpu")
    golden = classifier.spec.golden
    inputs, digest = draw_inputs(golden, classifier.spec.pixels)
    assert digest == golden.pixels
    found = classifier.classify(inputs)
    assert len(found) == len(golden.exact) == len(golden.keras) == MAX_INPUTS
    assert np.abs(found - np.array(golden.exact)).max() <= golden.exact_tolerance
    assert np.abs(np.array(golden.exact) - np.array(golden.keras)).max() <= golden.keras_tolerance
    assert golden.exact_tolerance <= 0.02
    assert np.std(np.array(golden.exact)[:, 1]) > 0.05  # a test on which all answers are alike shows little


def test_a_large_network_is_tested_on_fewer_inputs(monkeypatch, float32_model, pixels):
    from wetread.export import selftest

    monkeypatch.setattr(selftest, "_MAX_PRODUCTS", 2_500_000)
    few = choose_inputs(onnx.load(float32_model), toy_spec().pixels, pixels)
    assert 1 <= len(few.seeds) < MAX_INPUTS - 1
    monkeypatch.setattr(selftest, "_MAX_PRODUCTS", 1000)
    assert choose_inputs(onnx.load(float32_model), toy_spec().pixels, pixels).seeds == ()
