"""Weights of labels and the focal loss: beside Keras' own alpha, from the command line and from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wetread
from tests.train.drawn import configure_xray, draw_folder
from tests.train.test_fit import configure
from wetread.cli import run
from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train.batches import encode_targets
from wetread.train.config import TrainConfig
from wetread.train.fit import train
from wetread.train.label_weights import parse_weights, write_weights
from wetread.train.network import make_network

CONFIG = configure_xray(architecture="tests.train.networks:plain", size=20, loss="focal")
LOGITS = np.array([[1.5, -0.5, 0.25], [0.1, 0.2, -3.0], [-2.0, 0.3, 0.4]], np.float32)


def test_weights_are_read_by_name() -> None:
    assert parse_weights("balanced") is None and parse_weights("none") == {}
    assert parse_weights("NORMAL=1,PNEUMONIA=0.5") == {"NORMAL": 1.0, "PNEUMONIA": 0.5}
    assert parse_weights(" a = 2 , b=c=1e-3") == {"a": 2.0, "b=c": 0.001}
    assert parse_weights(write_weights({"a": 2.0, "b": 0.25})) == {"a": 2.0, "b": 0.25}


@pytest.mark.parametrize(
    "text", ["", "a", "a=", "=1", "a=0", "a=-1", "a=nan", "a=inf", "a=1,a=2", "Balanced"]
)
def test_what_is_no_weight_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="class_weight must be balanced, none, or weights above 0"):
        TrainConfig(data="d", output="o", class_weight=text)


def test_gamma_is_of_the_focal_loss_alone() -> None:
    with pytest.raises(ConfigError, match="focal_gamma 1 needs loss 'focal'"):
        TrainConfig(data="d", output="o", focal_gamma=1.0)
    with pytest.raises(ConfigError, match="focal_gamma must be at least 0 and at most 20"):
        TrainConfig(data="d", output="o", loss="focal", focal_gamma=-1.0)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.5])
def test_weights_are_alpha_of_keras_own_focal_loss(gamma: float) -> None:
    """Keras takes alpha itself, which wetread gives as the weight of an image: the losses are equal."""
    losses = import_keras().losses
    config = replace(CONFIG, focal_gamma=gamma)
    truth, alpha = np.array([0, 1, 1]), 0.75
    theirs = losses.BinaryFocalCrossentropy(
        apply_class_balancing=True, alpha=alpha, gamma=gamma, from_logits=True
    )
    targets = encode_targets(truth, 1)
    weights = np.where(truth == 1, alpha, 1 - alpha).astype(np.float32)
    found = make_network(config, 1, steps=5).loss(targets, LOGITS[:, :1], sample_weight=weights)
    assert float(found) == pytest.approx(float(theirs(targets, LOGITS[:, :1])), rel=1e-5)
    truth, alphas = np.array([0, 2, 1]), [0.2, 0.5, 0.3]
    targets = encode_targets(truth, 3)
    several = losses.CategoricalFocalCrossentropy(alpha=alphas, gamma=gamma, from_logits=True)
    weights = np.array(alphas, np.float32)[truth]
    found = make_network(config, 3, steps=5).loss(targets, LOGITS, sample_weight=weights)
    assert float(found) == pytest.approx(float(several(targets, LOGITS)), rel=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("weights") / "data", counts={"bar": 12, "disc": 24})


def test_the_command_and_the_function_train_alike_with_them(data: Path, tmp_path: Path) -> None:
    values = {"architecture": "tests.train.networks:plain", "size": 20, "epochs": 1, "batch_size": 16}
    values |= {"learning_rate": 0.01, "augment": "none", "validation": 0.25, "color": "gray"}
    values |= {"loss": "focal", "focal_gamma": 1.5}
    options = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    weights = ["--class-weight", "bar=3,disc=0.5"]
    assert run(["train", str(data), "-o", str(tmp_path / "a"), *options, *weights, "--quiet"]) == 0
    wetread.train(data, output=tmp_path / "b", class_weight={"bar": 3, "disc": 0.5}, **values)
    histories = [(tmp_path / name / "history.csv").read_bytes() for name in "ab"]
    assert histories[0] == histories[1]
    saved = TrainConfig.from_json((tmp_path / "a" / "config.json").read_text())
    assert (saved.class_weight, saved.focal_gamma) == ("bar=3,disc=0.5", 1.5)
    plain = wetread.train(data, output=tmp_path / "c", **values | {"focal_gamma": 2.0})
    assert (Path(plain.run) / "history.csv").read_bytes() != histories[0]


def test_a_weight_of_a_label_that_is_not_there_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="class_weight names ring, and the labels are bar, disc"):
        train(configure(data, tmp_path / "run", class_weight="bar=1,ring=2"))
    assert not (tmp_path / "run" / "config.json").exists()
