from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import wetread
from tests.export.networks import KERAS_WARNING
from tests.train.drawn import SHAPES, configure_xray, draw_folder
from tests.train.test_fit import StopError, configure, kill_in_epoch, load_weights, stop_after
from wetread.cli.train import app
from wetread.errors import ConfigError
from wetread.train.backbones import build_application, build_backbone
from wetread.train.config import TrainConfig
from wetread.train.events import StageStarted, StepEnded
from wetread.train.fine_tuning import Stages, find_start, plan_stages
from wetread.train.fit import TrainResult, train
from wetread.train.pretrained import list_leaves
from wetread.train.training_state import Learner

SMALL = "MobileNetV2-0.35"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two labels, whose network others begin with."""
    folder = tmp_path_factory.mktemp("base")
    data = draw_folder(folder / "data", counts={"bar": 24, "disc": 24})
    return Path(train(configure(data, folder / "run", epochs=2)).run)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other labels, and three of them."""
    return draw_folder(tmp_path_factory.mktemp("other") / "data", counts={"cross": 20, "ring": 20, "bar": 20})


def transfer(data: Path, run: Path, base: Path, **values) -> TrainConfig:
    return configure(data, run, **{"weights": str(base), "epochs": 4, "freeze_epochs": 2, **values})


@pytest.fixture(scope="module")
def whole(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, list]:
    events: list = []
    config = transfer(data, tmp_path_factory.mktemp("whole") / "run", base)
    return train(config, on_event=events.append), events


def test_the_body_is_frozen_first_and_follows_at_a_tenth_of_the_rate(
    whole: tuple[TrainResult, list], base: Path
) -> None:
    result, events = whole
    started = [event for event in events if isinstance(event, StageStarted)]
    assert [(e.first_epoch, e.last_epoch, e.learning_rate) for e in started] == [(1, 2, 0.01), (3, 4, 0.001)]
    head = 24 * 3 + 3
    norm = 2 * 12  # scale and offset of the batch norm, which stay
    assert started[0].trained == head
    assert started[1].trained == result.metrics["parameters"] - 2 * norm
    assert str(started[0]) == (
        f"epochs 1 to 2: {head} of {result.metrics['parameters']:,} parameters train, learning rate 0.01"
    )
    before, after = load_weights(base), load_weights(Path(result.run))
    # A kernel, the four of the batch norm, two kernels with their biases, the dense layer.
    changed = [not np.array_equal(a, b) for a, b in zip(before[:-2], after[:-2], strict=True)]
    assert changed == [True, False, False, False, False, True, True, True, True]


def test_a_run_that_stays_frozen_changes_the_last_layer_alone(data: Path, base: Path, tmp_path: Path) -> None:
    result = wetread.train(
        data,
        output=tmp_path / "run",
        architecture="tests.train.networks:tiny",
        weights=base,
        freeze_epochs=1,
        size=20,
        epochs=1,
        learning_rate=0.01,
    )
    before, after = load_weights(base), load_weights(Path(result.run))
    assert all(np.array_equal(a, b) for a, b in zip(before[:-2], after[:-2], strict=True))
    assert after[-2].any()
    import keras

    saved = keras.models.load_model(Path(result.run) / "model.keras", compile=False)
    assert all(layer.trainable for layer in saved.layers)


def test_the_command_line_starts_at_a_layer_and_records_everything(
    data: Path, base: Path, tmp_path: Path
) -> None:
    words = ["train", str(data), "--output", str(tmp_path / "run"), "--weights", str(base), "--epochs", "2"]
    words += ["--architecture", "tests.train.networks:tiny", "--size", "20", "--freeze-epochs", "1"]
    words += ["--fine-tune-at", "4", "--fine-tune-learning-rate", "0.002"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "epochs 2 to 2: " in done.stderr and "parameters train, learning rate 0.002" in done.stderr
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    digest = hashlib.sha256((base / "model.keras").read_bytes()).hexdigest()
    assert {name: saved[name] for name in ("weights", "weights_digest", "freeze_epochs", "fine_tune_at")} == {
        "weights": str(base),
        "weights_digest": digest,
        "freeze_epochs": 1,
        "fine_tune_at": "4",
    }
    assert saved["fine_tune_learning_rate"] == 0.002
    spec = json.loads((tmp_path / "run" / "spec.json").read_text())
    assert spec["training"]["weights"] == digest
    before, after = load_weights(base), load_weights(tmp_path / "run")
    changed = [not np.array_equal(a, b) for a, b in zip(before[:-2], after[:-2], strict=True)]
    assert changed == [False] * 5 + [True] * 4


def test_weights_that_trained_on_what_validates_are_doubted(base: Path, tmp_path: Path) -> None:
    """The same folder, split with another seed: figures of one split are not those of the other."""
    again = base.parent / "data"
    same = [str(event) for event in tell_transfer(again, base, tmp_path / "same", seed=0)]
    assert not [line for line in same if "of val" in line]
    words = ["train", str(again), "--output", str(tmp_path / "other"), "--weights", str(base)]
    words += ["--architecture", "tests.train.networks:tiny", "--size", "20", "--epochs", "1", "--seed", "7"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    counted = json.loads((tmp_path / "other" / "metrics.json").read_text())["seen_before"]
    assert f"warning: by their names, {counted} of the images that trained {base} show a " in done.stderr
    trained, validate = (
        list_split(run, part) for run, part in ((base, "train"), (tmp_path / "other", "val"))
    )
    assert counted == len(trained & validate) > 0


def test_a_resumed_run_remembers_what_its_weights_saw(base: Path, tmp_path: Path) -> None:
    """The file may have moved out of its run, whose splits then say nothing."""
    again, moved = base.parent / "data", tmp_path / "moved.keras"
    config = transfer(again, tmp_path / "run", base / "model.keras", seed=7, epochs=2, freeze_epochs=0)
    with pytest.raises(StopError):
        train(config, on_event=stop_after(1))
    shutil.copy(base / "model.keras", moved)
    told: list = []
    result = train(replace(config, weights=str(moved)), resume=True, on_event=told.append)
    seen = list_split(base, "train") & list_split(tmp_path / "run", "val")
    assert result.metrics["seen_before"] == len(seen) > 0
    assert [event for event in told if f"of the images that trained {moved} show a " in str(event)]


def list_split(run: Path, part: str) -> set[str]:
    with (run / "splits.csv").open(newline="") as lines:
        return {row["name"] for row in csv.DictReader(lines) if row["split"] == part}


def tell_transfer(data: Path, base: Path, run: Path, **values) -> list:
    events: list = []
    result = train(transfer(data, run, base, epochs=1, freeze_epochs=1, **values), on_event=events.append)
    assert "seen_before" not in result.metrics
    return events


LONG = pytest.mark.long


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=LONG), pytest.param(2, marks=LONG), 3])
def test_a_run_that_was_cut_ends_the_same(
    epoch: int, whole: tuple[TrainResult, list], data: Path, base: Path, tmp_path: Path
) -> None:
    """In the frozen stage, between the two, and while it is fine-tuned."""
    config = transfer(data, tmp_path / "run", base)
    with pytest.raises(StopError):
        train(config, on_event=stop_after(epoch))
    events: list = []
    resumed = train(config, resume=True, on_event=events.append)
    assert_same(resumed, whole[0])
    told = [event for event in whole[1] if isinstance(event, StageStarted) and event.last_epoch > epoch]
    assert [event for event in events if isinstance(event, StageStarted)] == told


@pytest.mark.long
@pytest.mark.parametrize("epoch", [2, 3, 4])
def test_a_killed_run_ends_the_same(epoch: int, data: Path, base: Path, tmp_path: Path) -> None:
    more = {"ema": 0.9, "best": "loss", "warmup": 0.5, "fine_tune_at": "4"}
    whole = train(transfer(data, tmp_path / "whole", base, **more))
    config = transfer(data, tmp_path / "run", base, **more)
    kill_in_epoch(config, epoch)
    assert_same(train(config, resume=True), whole)


def assert_same(resumed: TrainResult, whole: TrainResult) -> None:
    assert (Path(resumed.run) / "history.csv").read_bytes() == (Path(whole.run) / "history.csv").read_bytes()
    weights = zip(load_weights(Path(resumed.run)), load_weights(Path(whole.run)), strict=True)
    assert all(np.array_equal(a, b) for a, b in weights)


def test_a_run_is_not_resumed_with_other_weights(data: Path, base: Path, tmp_path: Path) -> None:
    file, moved = tmp_path / "base.keras", tmp_path / "moved.keras"
    whole = (base / "model.keras").read_bytes()
    file.write_bytes(whole)
    config = transfer(data, tmp_path / "run", file, epochs=2, freeze_epochs=1)
    with pytest.raises(StopError):
        train(config, on_event=stop_after(1))
    file.write_bytes(whole + b" ")
    with pytest.raises(ConfigError, match="began with weights, by their SHA-256 '"):
        train(config, resume=True)
    with pytest.raises(ConfigError, match="base.keras changed since its SHA-256 was taken"):
        train(TrainConfig.from_json((tmp_path / "run" / "config.json").read_text()), resume=True)
    file.unlink()
    with pytest.raises(ConfigError, match="there is no file"):
        train(config, resume=True)
    moved.write_bytes(whole)
    assert train(replace(config, weights=str(moved)), resume=True).new_epochs == 1


@pytest.mark.long
def test_folds_begin_with_the_same_weights(data: Path, base: Path, tmp_path: Path) -> None:
    result = train(transfer(data, tmp_path / "run", base, folds=2))
    configs = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("config.json"))]
    assert len(configs) == 3
    assert len({(one["weights_digest"], one["freeze_epochs"]) for one in configs}) == 1
    assert result.metrics["out_of_fold"]["folds"] == 2


def test_the_stages_are_those_of_the_options() -> None:
    def plan(**values):
        given = {"weights": "a.keras", "epochs": 10, "fine_tune_learning_rate": 1e-4, **values}
        stages = plan_stages(configure_xray(**given))
        return [
            (one.first, one.last, one.config.epochs, one.config.learning_rate, one.config.warmup)
            for one in stages
        ]

    assert plan_stages(configure_xray()) == []
    assert plan(freeze_epochs=4) == [(1, 4, 4, 1e-3, 0.0), (5, 10, 6, 1e-4, 0.0)]
    assert plan(freeze_epochs=10, warmup=1) == [(1, 10, 10, 1e-3, 1)]
    assert plan(freeze_epochs=0, warmup=1) == [(1, 10, 10, 1e-4, 1)]
    assert plan(freeze_epochs=0, fine_tune_learning_rate=None) == [(1, 10, 10, 1e-3, 0.0)]


def test_layers_that_a_network_of_the_users_own_freezes_stay_so() -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.layers[0].trainable = False
    Stages(configure_xray(), model, steps=1).leave()
    assert [layer.trainable for layer in model.layers] == [False, True]
    model.compile()
    config = configure_xray(weights="a.keras", epochs=2, freeze_epochs=1)
    stages = Stages(config, model, steps=1)
    for epoch in (1, 2):
        stages.enter(Learner(model), epoch)
        assert [layer.trainable for layer in model.layers] == [False, True]
    stages.leave()
    assert [layer.trainable for layer in model.layers] == [False, True]


def test_a_layer_that_is_not_there_is_refused_before_the_first_epoch(
    data: Path, base: Path, tmp_path: Path
) -> None:
    """It is needed after the frozen epochs only, and a run cannot change it."""
    events: list = []
    with pytest.raises(ConfigError, match="fine_tune_at 'conv9' is no layer of"):
        train(transfer(data, tmp_path / "run", base, fine_tune_at="conv9"), on_event=events.append)
    assert not any(isinstance(event, StepEnded) for event in events)
    assert not (tmp_path / "run" / "config.json").exists()


def test_layers_are_counted_as_keras_counts_them() -> None:
    """As `base.layers[100]` in tutorials, though here preprocessing comes first."""
    network = build_backbone(SMALL, (32, 32, 1), 1)
    leaves = list(list_leaves(network))
    keras_layers = build_application(SMALL, input_shape=(32, 32, 3)).layers
    config = configure_xray(backbone=SMALL, weights="a.h5", size=32)
    for number in (1, 2, 100, len(keras_layers) - 2):
        place = find_start(network, replace(config, fine_tune_at=number))
        assert leaves[place].name == keras_layers[number].name
    assert leaves[find_start(network, replace(config, fine_tune_at="Conv1"))].name == "Conv1"
    assert find_start(network, config) == find_start(network, replace(config, fine_tune_at="0")) == 0
    with pytest.raises(
        ConfigError, match=r"'block_99' is no layer of MobileNetV2-0.35: give a number up to 156"
    ):
        find_start(network, replace(config, fine_tune_at="block_99"))
    with pytest.raises(ConfigError, match="'500' is no layer"):
        find_start(network, replace(config, fine_tune_at="500"))


def test_options_that_contradict_one_another_are_refused() -> None:
    for name, value in (("freeze_epochs", 1), ("fine_tune_at", "3"), ("fine_tune_learning_rate", 0.1)):
        with pytest.raises(
            ConfigError, match=f"{name} is for a network that was trained before: give weights"
        ):
            configure_xray(**{name: value})
    with pytest.raises(ConfigError, match="freeze_epochs must be at most the 10 epochs of the run, not 11"):
        configure_xray(weights="a.h5", freeze_epochs=11)
    with pytest.raises(
        ConfigError, match="fine_tune_at '3' is of the epochs after the frozen ones, and all 4"
    ):
        configure_xray(weights="a.h5", epochs=4, freeze_epochs=4, fine_tune_at=3)
    with pytest.raises(ConfigError, match="warmup must be shorter than the 2 freeze_epochs, not 2"):
        configure_xray(weights="a.h5", freeze_epochs=2, warmup=2)
    with pytest.raises(ConfigError, match="freeze_epochs must be at least 0, not -1"):
        configure_xray(weights="a.h5", freeze_epochs=-1)


@pytest.mark.long
@pytest.mark.filterwarnings(KERAS_WARNING)
@pytest.mark.parametrize(
    "name",
    [
        "ConvNeXtTiny",
        "EfficientNetB0",
        "EfficientNetV2B0",
        "MobileNetV2",
        "MobileNetV3Large",
        "MobileNetV3Small",
        "ResNet50",
        "ResNet50V2",
    ],
)
def test_every_family_is_trained_and_exported_in_parity(name: str, tmp_path: Path) -> None:
    """With weights from a file; in float32 and, where export takes it, in int8."""
    from wetread.export import assert_parity

    data = draw_folder(tmp_path / "data", counts=dict.fromkeys(SHAPES[:2], 60), color=True)
    build_application(name, input_shape=(64, 64, 3)).save_weights(tmp_path / "body.weights.h5")
    config = configure_xray(
        data=str(data),
        output=str(tmp_path / "run"),
        backbone=name,
        weights=str(tmp_path / "body.weights.h5"),
        size=64,
        color="rgb",
        augment="none",
        epochs=2,
    )
    result = train(config)
    for precision in ("float32", "int8"):
        model = wetread.export(result.run, output=tmp_path / f"{precision}.onnx", precision=precision).path
        assert_parity(result.run, models=[model], images=data)
