"""Several devices and float16, on a machine without a GPU: logical CPUs, and a GPU that is only claimed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.train.drawn import configure_xray, draw_folder
from tests.train.test_fit import StopError, configure, stop_after
from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train import devices
from wetread.train.config import TrainConfig
from wetread.train.fit import train
from wetread.train.network import make_network

CONFIG = configure_xray(architecture="tests.train.networks:tiny", size=20)


def test_what_this_machine_cannot_do_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(devices, "list_gpus", list)
    devices.check_devices(CONFIG)
    with pytest.raises(ConfigError, match="--mixed-precision needs a GPU"):
        devices.check_devices(replace(CONFIG, mixed_precision=True))
    monkeypatch.setattr(devices, "list_gpus", lambda: ["GPU:0", "GPU:1", "GPU:2"])
    devices.check_devices(replace(CONFIG, batch_size=33))
    with pytest.raises(ConfigError, match="batch_size of 32 cannot be shared equally by 3 GPUs"):
        devices.check_devices(CONFIG)


def test_mixed_precision_is_of_the_network_alone() -> None:
    """The layers compute in float16 but the last; the process's policy stays, and a copy is float32."""
    keras = import_keras()
    model = make_network(replace(CONFIG, mixed_precision=True), 1, steps=5)
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.compute_dtype for layer in model.layers[:-1]} == {"float16"}
    assert model.layers[-1].compute_dtype == "float32"
    assert {str(weight.dtype) for weight in model.weights} == {"float32"}
    plain = devices.copy_plain(model)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    images = np.random.default_rng(0).random((4, 20, 20, 1), np.float32)
    answers = plain.predict_on_batch(images), model.predict_on_batch(images)
    assert answers[0].dtype == answers[1].dtype == np.float32
    assert answers[0] == pytest.approx(answers[1], abs=0.02)
    assert not np.array_equal(*answers)


@pytest.mark.long
def test_a_run_in_mixed_precision_is_saved_in_float32_and_resumes(tmp_path: Path, monkeypatch) -> None:
    """On a claimed GPU: the CPU computes float16 as well, only slowly."""
    monkeypatch.setattr(devices, "check_devices", lambda config: None)
    monkeypatch.setattr("wetread.train.fit.check_devices", lambda config: None)
    data = draw_folder(tmp_path / "data", counts={"bar": 16, "disc": 16})
    values = {"epochs": 2, "mixed_precision": True, "ema": 0.9}
    whole = train(configure(data, tmp_path / "whole", **values))
    config = configure(data, tmp_path / "cut", **values)
    with pytest.raises(StopError):
        train(config, on_event=stop_after(1))
    resumed = train(config, resume=True)
    assert (resumed.run / "history.csv").read_bytes() == (whole.run / "history.csv").read_bytes()
    assert resumed.metrics["validation"] == whole.metrics["validation"]
    network = import_keras().models.load_model(whole.run / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}


TWO = """
import json, sys
import tensorflow
cpu = tensorflow.config.list_physical_devices("CPU")[0]
tensorflow.config.set_logical_device_configuration(cpu, [tensorflow.config.LogicalDeviceConfiguration()] * 2)
from wetread.train import devices
from wetread.train.config import TrainConfig
from wetread.train.fit import train
devices.list_gpus = lambda: ["CPU:0", "CPU:1"]
config = TrainConfig.from_json(sys.stdin.read())
result = train(config, resume=True)
accuracy = result.metrics["validation"]["accuracy"]
print(json.dumps({"history": result.metrics["history"], "accuracy": accuracy}))
"""


def train_on_two(config: TrainConfig) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", TWO],
        input=config.to_json(),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_two_devices_share_a_batch_and_train_as_one(tmp_path: Path) -> None:
    """Without batch norms and dropout, which see a device's part alone, two devices take the same steps."""
    data = draw_folder(tmp_path / "data", counts={"bar": 24, "disc": 24})
    values = {"architecture": "tests.train.networks:plain", "epochs": 3, "ema": 0.5, "learning_rate": 0.003}
    values |= {"best": "loss"}
    one = train(configure(data, tmp_path / "one", **values)).metrics
    found = {"one": {"history": one["history"], "accuracy": one["validation"]["accuracy"]}}
    found["two"] = train_on_two(configure(data, tmp_path / "two", **values))
    for one, two in zip(found["one"]["history"], found["two"]["history"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)
    assert found["two"]["accuracy"] == pytest.approx(found["one"]["accuracy"], abs=0.1)
    assert found["one"]["history"][0]["loss"] != found["one"]["history"][2]["loss"]
