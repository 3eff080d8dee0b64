from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wetread
from tests.train.drawn import draw_folder
from wetread.cli import run
from wetread.errors import ConfigError, ExportError, OutputError
from wetread.keras_backend import import_keras
from wetread.train.config import VIEWS, TrainConfig
from wetread.train.events import EpochEnded, StageStarted
from wetread.train.fit import train
from wetread.train.pretraining import pretrain
from wetread.train.views import ViewLearner

OPTIONS = {"size": 32, "color": "gray", "augment": "light", "architecture": "edge", "batch_size": 16}


class StopError(Exception):
    """The run is cut off after an epoch."""


def stop_after(epoch: int):
    def listen(event: object) -> None:
        if isinstance(event, EpochEnded) and event.epoch == epoch:
            raise StopError

    return listen


def configure(data: Path, output: Path, **values) -> TrainConfig:
    given = {**OPTIONS, "objective": VIEWS, "epochs": 3, "learning_rate": 1e-3, **values}
    return TrainConfig(data=str(data), output=str(output), **given)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("views") / "data", counts={"bar": 24, "disc": 24})


@pytest.fixture(scope="module")
def body(data, tmp_path_factory) -> Path:
    """A finished run."""
    return Path(pretrain(configure(data, tmp_path_factory.mktemp("body") / "run")).run)


def read_splits(run: Path) -> dict[str, str]:
    with (run / "splits.csv").open(newline="") as file:
        return {row["name"]: row["split"] for row in csv.DictReader(file)}


def load_weights(run: Path) -> list[np.ndarray]:
    return import_keras().models.load_model(run / "model.keras", compile=False).get_weights()


def test_a_run_says_what_it_learned(body):
    metrics = json.loads((body / "metrics.json").read_text())
    assert [row["epoch"] for row in metrics["history"]] == [1, 2, 3]
    assert metrics["history"][-1]["loss"] < metrics["history"][0]["loss"]
    assert 0 <= metrics["matched"] <= 1
    assert sorted(path.name for path in body.iterdir() if path.is_file() and path.name[0] != ".") == [
        "augmentation.png",
        "config.json",
        "corrupt.csv",
        "history.csv",
        "inputs.json",
        "metrics.json",
        "model.keras",
        "splits.csv",
    ]


def test_a_killed_run_goes_on_and_ends_the_same(data, body, tmp_path):
    config = configure(data, tmp_path / "run")
    with pytest.raises(StopError):
        pretrain(config, on_event=stop_after(1))
    with pytest.raises(OutputError, match=r"unfinished run.*--resume"):
        pretrain(config)
    result = pretrain(config, resume=True)
    assert result.new_epochs == 2
    assert (result.run / "history.csv").read_bytes() == (body / "history.csv").read_bytes()
    pairs = zip(load_weights(result.run), load_weights(body), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    assert pretrain(config, resume=True).new_epochs == 0


def test_train_begins_with_it_and_trains_all_of_it_at_once(data, body, tmp_path):
    events: list = []
    config = replace(
        configure(data, tmp_path / "run", objective="labels", epochs=2), weights=str(body), freeze_epochs=None
    )
    result = train(config, on_event=events.append)
    assert not [event for event in events if isinstance(event, StageStarted)]
    saved = json.loads((result.run / "config.json").read_text())
    assert (saved["weights_objective"], saved["freeze_epochs"]) == (VIEWS, None)
    assert read_splits(result.run) == read_splits(body)  # what validates here was not seen there
    # Statistics, scales and offsets of batch norms train too: none is as it was.
    before, after = load_weights(body), load_weights(result.run)
    assert [a.shape for a in before] == [b.shape for b in after]
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True) if a.size > 1)
    cut = replace(config, output=str(tmp_path / "cut"))
    with pytest.raises(StopError):
        train(cut, on_event=stop_after(1))
    resumed = train(cut, resume=True)
    assert (resumed.run / "history.csv").read_bytes() == (result.run / "history.csv").read_bytes()


def test_stages_are_for_networks_that_know_labels(data, body, tmp_path):
    config = replace(
        configure(data, tmp_path / "run", objective="labels"), weights=str(body), freeze_epochs=1
    )
    with pytest.raises(ConfigError, match="freeze_epochs is for a network that was trained on labels"):
        train(config)


def test_what_has_no_answers_neither_exports_nor_teaches(data, body, tmp_path):
    with pytest.raises(ExportError, match="trained without labels.*--weights"):
        wetread.export(body, output=tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="cannot teach.*--weights"):
        train(replace(configure(data, tmp_path / "run", objective="labels"), teacher=str(body)))


def test_a_run_of_one_kind_is_not_resumed_as_another(data, body):
    with pytest.raises(ConfigError, match="objective 'views', not 'labels'"):
        train(configure(data, body, objective="labels"), resume=True)
    with pytest.raises(ConfigError, match="objective must be 'views'"):
        pretrain(configure(data, body, objective="labels"))


@pytest.mark.parametrize(
    ("values", "words"),
    [({"batch_size": 1}, "2 or more"), ({"folds": 2}, "have no part"), ({"weights": "body"}, "have no part")],
)
def test_what_cannot_be_learned_from_views_is_refused(data, tmp_path, values, words):
    with pytest.raises(ConfigError, match=words):
        pretrain(configure(data, tmp_path / "run", **values))


def test_the_network_of_a_run_is_that_run(data, body, tmp_path):
    given = {"objective": "labels", "epochs": 1, "weights": str(body / "model.keras")}
    result = train(configure(data, tmp_path / "run", **given))
    assert json.loads((result.run / "config.json").read_text())["weights_objective"] == VIEWS


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_configuration_is_named(data, body, tmp_path, text):
    copy = tmp_path / "copy"
    shutil.copytree(body, copy)
    (copy / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json.*Copy the whole run again"):
        train(configure(data, tmp_path / "run", objective="labels", weights=str(copy)))


def test_weights_that_are_no_numbers_end_the_run(data, tmp_path, monkeypatch):
    """On some processors a ReLU turns NaN into 0, and the loss stays finite."""

    def spoil(self: ViewLearner, *_: np.ndarray) -> tuple[float, float]:
        weight = self.model.weights[0]
        weight.assign(np.full(weight.shape, np.nan))
        return 1.0, 0.5

    monkeypatch.setattr(ViewLearner, "learn", spoil)
    with pytest.raises(ConfigError, match="diverged in epoch 1"):
        pretrain(configure(data, tmp_path / "run"))


def test_labels_are_not_trained_on_views(data, tmp_path):
    with pytest.raises(ConfigError, match="objective must be 'labels'"):
        train(configure(data, tmp_path / "run"))


def test_the_command_and_the_function_are_one(data, tmp_path, capsys):
    options = ["--size", "32", "--augment", "light", "--batch-size", "16", "--epochs", "1", "--seed", "3"]
    assert run(["pretrain", str(data), "--output", str(tmp_path / "a"), *options, "--quiet"]) == 0
    assert f"wetread train DATA --output RUN --weights {tmp_path / 'a'}" in capsys.readouterr().out
    result = wetread.pretrain(
        data, output=tmp_path / "b", size=32, augment="light", batch_size=16, epochs=1, seed=3
    )
    assert (tmp_path / "a" / "history.csv").read_bytes() == (result.run / "history.csv").read_bytes()
    assert json.loads((result.run / "config.json").read_text())["learning_rate"] == 2e-3
