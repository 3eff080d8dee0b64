"""Both integer arithmetics: what they compute, and that this CPU computes one of them to the bit."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.export.networks import draw_lamp, toy_spec
from tests.export.saturating import multiply_saturating
from tests.export.test_quantize import residual_graph
from wetread.errors import MachineError
from wetread.export.contract import finish
from wetread.export.emulation import Emulator, multiply_exactly
from wetread.export.quantize import Settings, activation_names, quantize_graph
from wetread.export.ranges import collect_histograms
from wetread.export.selftest import choose_inputs, make_golden
from wetread.export.weights import quantize_weight
from wetread.runtime.images.pixels import resize
from wetread.runtime.machine import read_processor
from wetread.runtime.model.verify import verify_model
from wetread.runtime.scoring.classifier import Classifier

NAIVE = ("s8s8", "u8s8")


def matrices(left: np.dtype, right: np.dtype):
    sizes = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4))
    return sizes.flatmap(lambda s: st.tuples(hnp.arrays(left, (s[0], s[1])), hnp.arrays(right, (s[1], s[2]))))


@settings(max_examples=60, deadline=None)
@given(pair=matrices(np.uint8, np.int8))
def test_saturating_products_by_hand(pair):
    left, right = pair
    expected = np.zeros((left.shape[0], right.shape[1]), np.int64)
    for i, j in np.ndindex(*expected.shape):
        products = [int(a) * int(b) for a, b in zip(left[i], right[:, j], strict=True)]
        for k in range(0, len(products), 2):
            expected[i, j] += min(max(sum(products[k : k + 2]), -32768), 32767)
    assert (multiply_saturating(left, right) == expected).all()
    assert (multiply_exactly(left, right) == left.astype(int) @ right.astype(int)).all()


@settings(max_examples=60, deadline=None)
@given(pair=matrices(np.uint8, np.float32))
def test_weights_of_ours_cannot_saturate(pair):
    left, right = pair
    integers, _ = quantize_weight(np.nan_to_num(np.clip(right, -1e6, 1e6)), 1, "s8")
    assert (multiply_saturating(left, integers) == multiply_exactly(left, integers)).all()


def test_signed_activations_are_moved_up_first():
    left, right = np.array([[127, 127]], np.int8), np.array([[127], [127]], np.int8)
    assert multiply_exactly(left, right).item() == 2 * 127 * 127
    assert multiply_saturating(left, right).item() == 32767 - 128 * 254


@pytest.fixture(scope="module")
def pixels():
    return np.stack([resize(draw_lamp(seed)[0][..., None], toy_spec().pixels) for seed in range(500, 564)])


def quantize_naively(source, target, pixels, form: str, spec=None) -> bytes:
    """What onnxruntime's own function makes by its defaults (s8s8), or per channel with uint8 (u8s8)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.starts = iter(range(0, len(pixels), 8))

        def get_next(self):
            start = next(self.starts, None)
            return None if start is None else {"image": pixels[start : start + 8]}

    options = {} if form == "s8s8" else {"activation_type": QuantType.QUInt8, "per_channel": True}
    logging.disable(logging.WARNING)
    try:
        quantize_static(source, target, Reader(), **options)
    finally:
        logging.disable(logging.NOTSET)
    return finish(onnx.load(target), spec or toy_spec(precision="int8"))


@pytest.fixture(scope="module")
def naive(float32_model, pixels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("naive")
    return {form: quantize_naively(float32_model, folder / f"{form}.onnx", pixels, form) for form in NAIVE}


@pytest.mark.parametrize("form", NAIVE)
def test_a_naive_file_computes_differently_on_other_processors(naive, pixels, form):
    exact = Emulator(naive[form]).classify(pixels)
    saturating = Emulator(naive[form], product=multiply_saturating).classify(pixels)
    assert np.abs(exact - saturating).max() > 1e-3
    processor = read_processor()
    if processor.architecture not in ("x86_64", "AMD64"):
        pytest.skip("only x86 has both arithmetics")
    here = Classifier(naive[form], device="cpu").classify(pixels)
    expected = exact if processor.integer_dot_product else saturating
    assert np.abs(here - expected).max() <= 1e-6


@pytest.fixture(scope="module")
def stamped(naive, float32_model, pixels, tmp_path_factory):
    """The naive files with the self-test that export gives its own."""
    keras = Classifier(float32_model, device="cpu")
    inputs = choose_inputs(onnx.load(float32_model), toy_spec().pixels, pixels)
    paths = {form: tmp_path_factory.mktemp("stamped") / f"{form}.onnx" for form in NAIVE}
    for form, path in paths.items():
        golden = make_golden(
            naive[form],
            inputs,
            toy_spec().pixels,
            precision="int8",
            keras=lambda drawn: keras.classify(drawn),
        )
        spec = dataclasses.replace(toy_spec(precision="int8"), golden=golden)
        path.write_bytes(finish(onnx.load_from_string(naive[form]), spec))
    return paths


@pytest.mark.parametrize("form", NAIVE)
def test_verify_refuses_a_naive_file(stamped, form):
    """Its integers are not proven anywhere; on a CPU without VNNI its answers are off too."""
    path = stamped[form]
    report = verify_model(path)
    failed = {check.name for check in report.checks if not check.passed}
    processor = read_processor()
    old = processor.architecture in ("x86_64", "AMD64") and not processor.integer_dot_product
    assert not report.passed
    assert failed >= ({"integers", "exact answers"} if old else {"integers"})
    if old:
        with pytest.raises(MachineError, match="no VNNI.*Use the float32 file of this network"):
            Classifier(path, device="cpu")


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="no qemu-x86_64 (package qemu-user)")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="Python is not for x86 here")
def test_onnxruntime_itself_on_a_processor_without_vnni(stamped, int8_model, float32_model):
    """Whatever the CPU of this machine: its instructions carried out as a Haswell of 2013 does."""

    def verify(path):
        command = [
            "qemu-x86_64",
            "-cpu",
            "Haswell",
            sys.executable,
            "-m",
            "wetread",
            "verify",
            path,
            "--json",
        ]
        done = subprocess.run(command, capture_output=True, timeout=600)
        report = json.loads(done.stdout)
        assert "AVX-512 VNNI" not in report["processor"]["features"]
        return done.returncode, {check["name"] for check in report["checks"] if not check["passed"]}

    assert verify(float32_model) == (0, set())
    assert verify(int8_model) == (0, set())
    for path in stamped.values():
        code, failed = verify(path)
        assert code == 1
        assert failed >= {"integers", "exact answers"}


def test_our_file_computes_the_same_on_all(int8_model, pixels):
    data = int8_model.read_bytes()
    exact = Emulator(data).classify(pixels)
    saturating = Emulator(data, product=multiply_saturating).classify(pixels)
    assert (exact == saturating).all()
    here = Classifier(data, device="cpu").classify(pixels)
    assert np.abs(here - exact).max() <= 1e-6


@pytest.mark.parametrize("weights", ["s8", "u8"])
def test_a_graph_of_many_kinds_of_layers_to_the_bit(pixels, weights):
    model = residual_graph()
    histograms = collect_histograms(model, activation_names(model), pixels)
    data = finish(quantize_graph(model, histograms, Settings(weights=weights)), toy_spec())
    here = Classifier(data, device="cpu").classify(pixels)
    assert np.abs(Emulator(data).classify(pixels) - here).max() <= 1e-6
    assert np.abs(Emulator(data, product=multiply_saturating).classify(pixels) - here).max() <= 1e-6
