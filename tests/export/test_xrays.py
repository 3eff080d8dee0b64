"""The paper's model 3 on the real X-rays: what issue 5 promises of int8, all at once.

Trains for ten epochs first (minutes), unless $WETREAD_RUN names a finished RUN of model-3 on them.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.export.networks import KERAS_WARNING
from tests.export.saturating import multiply_saturating
from tests.export.test_emulation import quantize_naively
from wetread.export import ExportOptions, export_run
from wetread.export.assumptions import read_run_spec
from wetread.export.contract import finish
from wetread.export.emulation import Emulator
from wetread.export.images import read_run_images
from wetread.export.judging import classify_all
from wetread.export.network import load_network, predict_network, wrap_network
from wetread.export.selftest import choose_inputs, make_golden
from wetread.runtime.machine import read_processor
from wetread.runtime.model.verify import verify_model
from wetread.runtime.scoring.classifier import Classifier

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings(KERAS_WARNING)]


@pytest.fixture(scope="module")
def run(xray_data, tmp_path_factory) -> Path:
    if "WETREAD_RUN" in os.environ:
        return Path(os.environ["WETREAD_RUN"])
    from wetread.train.config import TrainConfig
    from wetread.train.fit import train

    run = tmp_path_factory.mktemp("run") / "model-3"
    data = str(xray_data / "chest-xray-224")
    train(TrainConfig(data=data, output=str(run), architecture="model-3", epochs=10))
    return run


def test_model_3_on_both_kinds_of_processors(run, tmp_path):
    spec = read_run_spec(run)
    float32, int8 = tmp_path / "float32.onnx", tmp_path / "int8.onnx"
    assert export_run(run, output=float32).difference <= 1e-5
    export_run(run, output=int8, options=ExportOptions(precision="int8"))
    images = read_run_images(run, spec)
    pixels = images.validation.pixels
    wrapped = wrap_network(load_network(run / "model.keras"), spec.pixels.shape)
    keras = predict_network(wrapped, pixels, spec)
    labels, most = spec.decide(keras.astype(np.float32)), 0.005 * len(pixels)

    assert int8.stat().st_size <= 0.35 * float32.stat().st_size
    data = int8.read_bytes()
    exact, saturating = Emulator(data), Emulator(data, product=multiply_saturating)
    for classify in (Classifier(int8, device="cpu").classify, exact.classify, saturating.classify):
        assert (spec.decide(classify(pixels)) != labels).sum() <= most
    assert verify_model(int8).passed

    naive = quantize_naively(float32, tmp_path / "naive.onnx", images.calibration.pixels, "s8s8", spec)
    inputs = choose_inputs(onnx.load(float32), spec.pixels, images.calibration.pixels)
    golden = make_golden(
        naive,
        inputs,
        spec.pixels,
        precision="int8",
        keras=lambda drawn: predict_network(wrapped, drawn, spec),
    )
    stamped = finish(onnx.load_from_string(naive), dataclasses.replace(spec, precision="int8", golden=golden))
    (tmp_path / "stamped.onnx").write_bytes(stamped)
    failed = {check.name for check in verify_model(tmp_path / "stamped.onnx").checks if not check.passed}
    assert "integers" in failed
    if read_processor().architecture in ("x86_64", "AMD64") and not read_processor().integer_dot_product:
        assert "exact answers" in failed
        here = spec.decide(classify_all(Classifier(naive, device="cpu"), pixels))
        assert (here != labels).sum() > most  # the naive file flips more than the gate allows
