from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train import networks
from tests.train.drawn import SHAPES, draw_folder, draw_shape, write_image
from wetread.cli.train import _print_result, say_resume
from wetread.errors import ConfigError, DatasetError, OutputError
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.model.spec import ModelSpec
from wetread.train.config import TrainConfig
from wetread.train.events import DataFound, Doubted, EpochEnded, StepEnded, TrainingStarted, describe_event
from wetread.train.fit import TrainResult, train
from wetread.train.network import widen


def configure(data: Path, run: Path, **values) -> TrainConfig:
    defaults = {
        "architecture": "tests.train.networks:tiny",
        "size": 20,
        "epochs": 3,
        "batch_size": 16,
        "augment": "light",
        "learning_rate": 0.01,
        "validation": 0.25,
    }
    return TrainConfig(data=str(data), output=str(run), **{**defaults, **values})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_folder(tmp_path_factory.mktemp("fit") / "data", counts={"bar": 32, "disc": 64})
    (folder / "bar" / "person3_cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    return folder


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, list]:
    events: list = []
    run = tmp_path_factory.mktemp("finished") / "run"
    return train(configure(data, run), on_event=events.append), events


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_holds_what_the_design_says(finished: tuple[TrainResult, list]) -> None:
    result, _ = finished
    files = {str(path.relative_to(result.run)) for path in result.run.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("cache/")} == {
        *(".lock", "augmentation.png", "calibration/files.txt", "config.json", "corrupt.csv"),
        *("history.csv", "history.png", "inputs.json", "metrics.json", "model.keras", "spec.json"),
        *("learned_last.csv", "learned_last.png", "splits.csv"),
    }
    assert result.new_epochs == 3
    assert (
        TrainConfig.from_json((result.run / "config.json").read_text()).architecture
        == "tests.train.networks:tiny"
    )
    assert json.loads((result.run / "metrics.json").read_text()) == result.metrics
    assert ModelSpec.from_json((result.run / "spec.json").read_text()) == result.spec
    assert [row["epoch"] for row in read_table(result.run / "history.csv")] == ["1", "2", "3"]
    assert [row["name"] for row in read_table(result.run / "corrupt.csv")] == ["bar/person3_cut.jpg"]


def test_splits_and_calibration_are_saved(finished: tuple[TrainResult, list]) -> None:
    rows = read_table(finished[0].run / "splits.csv")
    assert len(rows) == 96
    assert {row["label"] for row in rows} == {"bar", "disc"}
    sides = {side: {row["group"] for row in rows if row["split"] == side} for side in ("train", "val")}
    assert not sides["train"] & sides["val"]
    names = (finished[0].run / "calibration" / "files.txt").read_text().splitlines()
    assert sorted(names) == sorted(row["name"] for row in rows if row["split"] == "train")


def test_what_happens_is_told(finished: tuple[TrainResult, list]) -> None:
    result, events = finished
    found = next(event for event in events if isinstance(event, DataFound))
    assert {split: sum(n.values()) for split, n in found.counts.items()} == {"train": 72, "val": 24}
    assert [one.name for one in found.left_out] == ["bar/person3_cut.jpg"]
    started = next(event for event in events if isinstance(event, TrainingStarted))
    assert (started.parameters, started.steps, started.first_epoch) == (result.metrics["parameters"], 5, 1)
    steps = [(event.epoch, event.step) for event in events if isinstance(event, StepEnded)]
    assert steps == [(epoch, step) for epoch in (1, 2, 3) for step in (1, 2, 3, 4, 5)]
    ended = [event for event in events if isinstance(event, EpochEnded)]
    assert [event.metrics for event in ended] == result.metrics["history"]
    text = "\n".join(describe_event(event) for event in events)
    assert "left out: 1 files" in text
    assert "tests.train.networks:tiny: " in text
    assert "epoch 3/3: loss" in text


def test_metrics_are_those_of_the_saved_network(finished: tuple[TrainResult, list], data: Path) -> None:
    """model.keras, loaded by Keras alone and given x * scale + offset, has the validation metrics told."""
    import keras

    result, _ = finished
    network = keras.models.load_model(result.run / "model.keras", compile=False, safe_mode=True)
    assert network.compiled is False
    assert (result.run / "model.keras").stat().st_size < 4 * result.metrics["parameters"] + 40_000
    assert sum(int(np.prod(weight.shape)) for weight in network.weights) == result.metrics["parameters"]
    rows = [row for row in read_table(result.run / "splits.csv") if row["split"] == "val"]
    images = [read_pixels((data / row["name"]).read_bytes(), result.spec.pixels) for row in rows]
    scaled = np.stack(images) * np.float32(result.spec.scale[0]) + np.float32(result.spec.offset[0])
    probabilities = widen(network.predict(scaled, verbose=0), head=result.spec.head)
    assert result.spec.head == "logits"
    chosen = result.spec.decide(probabilities)
    truth = np.array([result.spec.labels.index(row["label"]) for row in rows])
    assert result.metrics["validation"]["accuracy"] == pytest.approx((chosen == truth).mean())
    assert result.metrics["validation"]["images"] == len(rows) == 24
    last = read_table(result.run / "history.csv")[-1]
    assert float(last["val_accuracy"]) == pytest.approx((chosen == truth).mean(), abs=1e-4)
    assert result.metrics["validation"]["intervals"]["accuracy"][0] <= (chosen == truth).mean()


def test_same_seed_same_history(finished: tuple[TrainResult, list], data: Path, tmp_path: Path) -> None:
    again = train(configure(data, tmp_path / "again"))
    assert (again.run / "history.csv").read_bytes() == (finished[0].run / "history.csv").read_bytes()
    assert (again.run / "splits.csv").read_bytes() == (finished[0].run / "splits.csv").read_bytes()
    other = train(configure(data, tmp_path / "other", seed=1, epochs=1))
    assert read_table(other.run / "history.csv")[0] != read_table(again.run / "history.csv")[0]


def test_a_finished_run_is_left_as_it_is(finished: tuple[TrainResult, list], data: Path) -> None:
    result, _ = finished
    before = {path: path.stat().st_mtime_ns for path in result.run.iterdir()}
    again = train(configure(data, result.run), resume=True)
    assert (again.new_epochs, again.metrics, again.spec) == (0, result.metrics, result.spec)
    assert {path: path.stat().st_mtime_ns for path in result.run.iterdir()} == before
    with pytest.raises(OutputError, match="finished run"):
        train(configure(data, result.run))
    with pytest.raises(ConfigError, match="began with epochs 3, not 5"):
        train(configure(data, result.run, epochs=5), resume=True)


CHILD = """
import sys, time
from wetread.train.config import TrainConfig
from wetread.train.fit import train
from wetread.train.events import StepEnded
def tell(event):
    if isinstance(event, StepEnded):
        print(event.epoch, event.step, flush=True)
        if (event.epoch, event.step) == (int(sys.argv[1]), 2):
            time.sleep(600)  # until the kill, which a busy machine may delay
train(TrainConfig.from_json(sys.stdin.read()), resume=True, on_event=tell)
"""


def kill_in_epoch(config: TrainConfig, epoch: int) -> None:
    """Train in a process of its own and kill it in the middle of an epoch."""
    told = []
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(epoch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as child:
        assert child.stdin and child.stdout
        child.stdin.write(config.to_json())
        child.stdin.close()
        for line in child.stdout:
            told.append(line)
            if line.split() == [str(epoch), "2"]:
                child.kill()
                break
    assert child.returncode == -signal.SIGKILL, "".join(told)


def test_a_killed_run_goes_on_and_ends_the_same(
    finished: tuple[TrainResult, list], data: Path, tmp_path: Path
) -> None:
    config = configure(data, tmp_path / "run")
    kill_in_epoch(config, epoch=2)
    assert len(read_table(tmp_path / "run" / "history.csv")) == 1
    with pytest.raises(OutputError, match=r"unfinished run.*--resume"):
        train(config)
    events: list = []
    result = train(config, resume=True, on_event=events.append)
    assert result.new_epochs == 2
    assert [event.first_epoch for event in events if isinstance(event, TrainingStarted)] == [2]
    for name in ("history.csv", "learned_last.csv", "learned_last.png"):
        assert (result.run / name).read_bytes() == (finished[0].run / name).read_bytes()
    assert result.metrics["validation"] == finished[0].metrics["validation"]
    assert not (result.run / "checkpoint.npz").exists()


class StopError(Exception):
    """The run is cut off after an epoch."""


def stop_after(epoch: int):
    def listen(event) -> None:
        if isinstance(event, EpochEnded) and event.epoch == epoch:
            raise StopError

    return listen


def load_weights(run: Path) -> list[np.ndarray]:
    import keras

    return keras.models.load_model(run / "model.keras", compile=False).get_weights()


MORE = {
    "epochs": 5,
    "ema": 0.9,
    "warmup": 1.5,
    "label_smoothing": 0.1,
    "loss": "focal",
    "focal_gamma": 1.5,
    "class_weight": "bar=2,disc=0.7",
    "best": "loss",
    "early_stopping": 2,
    "learning_rate": 0.03,
}


def test_a_run_with_all_options_resumes_as_exactly(data: Path, tmp_path: Path) -> None:
    whole = train(configure(data, tmp_path / "whole", **MORE))
    config = configure(data, tmp_path / "cut", **MORE)
    with pytest.raises(StopError):
        train(config, on_event=stop_after(2))
    resumed = train(config, resume=True)
    for name in ("history.csv", "learned_last.csv"):
        assert (resumed.run / name).read_bytes() == (whole.run / name).read_bytes()
    assert resumed.metrics["validation"] == whole.metrics["validation"]
    assert resumed.metrics["kept_epoch"] == whole.metrics["kept_epoch"]
    weights = zip(load_weights(resumed.run), load_weights(whole.run), strict=True)
    assert all(np.array_equal(a, b) for a, b in weights)


def test_the_best_epoch_is_kept_and_training_ends_early(data: Path, tmp_path: Path) -> None:
    """At this rate the loss of validation goes up and down: the best epoch is not the last."""
    values = {"epochs": 9, "learning_rate": 0.1, "schedule": "constant", "best": "loss", "early_stopping": 2}
    result = train(configure(data, tmp_path / "run", **values))
    losses = [row["val_loss"] for row in result.metrics["history"]]
    kept = losses.index(min(losses)) + 1
    assert len(losses) == min(kept + 2, 9)
    assert result.metrics["kept_epoch"] == kept < len(losses)
    assert result.metrics["validation"]["log_loss"] == pytest.approx(min(losses), abs=1e-6)


def test_a_run_is_not_resumed_on_other_data(data: Path, tmp_path: Path) -> None:
    copy = draw_folder(tmp_path / "data", counts={"bar": 16, "disc": 16})
    config = configure(copy, tmp_path / "run", epochs=2)
    with pytest.raises(StopError):
        train(config, on_event=stop_after(1))
    image = copy / "bar" / "person0_0.jpg"
    whole = image.read_bytes()
    write_image(image, draw_shape("ring", seed=1))
    with pytest.raises(DatasetError, match="The data changed"):
        train(config, resume=True)
    image.unlink()
    with pytest.raises(DatasetError, match="The images changed.*32 then, 31 now"):
        train(config, resume=True)
    image.write_bytes(whole)
    assert train(config, resume=True).new_epochs == 1


@pytest.mark.long
def test_a_run_is_not_resumed_on_other_labels(data: Path, tmp_path: Path) -> None:
    copy = draw_folder(tmp_path / "data", counts={"bar": 16, "disc": 16})
    rows = [f"{path.relative_to(copy).as_posix()},{path.parent.name}" for path in sorted(copy.rglob("*.*"))]
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n" + "\n".join(rows) + "\n")
    config = configure(copy, tmp_path / "run", epochs=2, labels=str(labels))
    with pytest.raises(StopError):
        train(config, on_event=stop_after(1))
    whole = labels.read_text()
    labels.write_text(whole.replace("person0_0.jpg,bar", "person0_0.jpg,disc"))
    with pytest.raises(DatasetError, match="The labels changed since the run"):
        train(config, resume=True)
    labels.write_text(whole)
    assert train(config, resume=True).new_epochs == 1


@pytest.mark.long
def test_a_run_is_not_resumed_with_another_network_of_the_same_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights would fit: all shapes are equal."""
    config = configure(data, tmp_path / "run", epochs=2, subset=40)
    with pytest.raises(StopError):
        train(config, on_event=stop_after(1))
    with monkeypatch.context() as patch:
        patch.setattr("tests.train.networks.tiny", networks.tanh)
        with pytest.raises(ConfigError, match="The architecture changed.*tests.train.networks:tiny"):
            train(config, resume=True)
    assert train(config, resume=True).new_epochs == 1


@pytest.mark.parametrize(
    ("labels", "color"),
    [(("bar", "disc"), "gray"), (SHAPES, "gray"), (("bar", "disc", "ring"), "rgb")],
    ids=["two labels, gray", "four labels, gray", "three labels, color"],
)
def test_drawn_shapes_are_learned(labels: tuple[str, ...], color: str, tmp_path: Path) -> None:
    counts = dict.fromkeys(labels, 60)
    folder = draw_folder(tmp_path / "data", counts=counts, color=color == "rgb")
    config = configure(folder, tmp_path / "run", color=color, epochs=8, augment="none", size=24)
    result = train(config)
    validation = result.metrics["validation"]
    assert result.spec.labels == labels
    assert result.spec.positive == (labels[-1] if len(labels) == 2 else None)
    assert result.spec.pixels.channels == (3 if color == "rgb" else 1)
    assert validation["accuracy"] > (1.5 if len(labels) > 2 else 1.6) / len(labels)
    assert validation["auc"] > 0.8
    assert set(validation["per_label"]) == set(labels)
    assert set(result.metrics["history"][0]) == {
        *(
            "epoch",
            "loss",
            "seconds",
            "val_loss",
            "val_accuracy",
            "val_balanced_accuracy",
            "val_f1",
            "val_auc",
        ),
        *(("val_sensitivity", "val_specificity") if len(labels) == 2 else ()),
    }


def test_the_positive_label_can_be_the_first(data: Path, tmp_path: Path) -> None:
    result = train(configure(data, tmp_path / "run", positive="bar", epochs=1, subset=40))
    validation = result.metrics["validation"]
    assert result.spec.positive == validation["positive"] == "bar"
    (bar_bar, bar_disc), (disc_bar, disc_disc) = validation["confusion"]
    assert validation["sensitivity"] == pytest.approx(bar_bar / (bar_bar + bar_disc))
    assert validation["specificity"] == pytest.approx(disc_disc / (disc_bar + disc_disc))


def test_what_cannot_train_is_refused_before_tensorflow_starts(tmp_path: Path) -> None:
    draw_folder(tmp_path / "data", counts={"bar": 4})
    code = (
        "import sys\n"
        "from wetread.errors import WetreadError\n"
        "from wetread.train.config import TrainConfig\n"
        "from wetread.train.fit import train\n"
        "for values in ({}, {'architecture': 'model-9'}, {'augment': 'strong'}):\n"
        "    config = TrainConfig(data='data', output='run', **values)\n"
        "    try:\n"
        "        train(config)\n"
        "    except WetreadError as error:\n"
        "        print(type(error).__name__)\n"
        "print(sorted({'tensorflow', 'keras', 'matplotlib', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:4] == ["DatasetError", "ConfigError", "ConfigError", "[]"]
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_label_that_is_not_there_cannot_be_positive(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'positive'"):
        train(configure(data, tmp_path / "run", positive="cat"))


def test_a_network_that_cannot_be_built_leaves_no_run(data: Path, tmp_path: Path) -> None:
    """So that the same --output can be taken again, with other options."""
    for values in ({"mixed_precision": True}, {"architecture": "edge", "backbone": "VGG16"}):
        with pytest.raises(ConfigError, match=r"--mixed-precision|VGG16 does not take images"):
            train(configure(data, tmp_path / "run", **values))
        assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_that_diverges_says_so(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Lower --learning-rate"):
        train(configure(data, tmp_path / "run", architecture="tests.train.networks:diverging", epochs=1))


def test_patients_set_aside_decide_temperature_and_threshold(data: Path, tmp_path: Path) -> None:
    result = train(
        configure(data, tmp_path / "run", calibration_split=0.25, threshold_rule="sensitivity>=0.8")
    )
    rows = {row["name"]: row for row in read_table(result.run / "splits.csv")}
    held_out = read_table(result.run / "held_out.csv")
    assert {row["name"] for row in held_out} == {n for n, row in rows.items() if row["split"] == "cal"}
    assert not {row["group"] for row in held_out} & {r["group"] for r in rows.values() if r["split"] != "cal"}
    spec, point = result.spec, result.metrics["operating_point"]
    assert spec.threshold_rule == "sensitivity>=0.8" and spec.uncertain is not None
    assert (point["temperature"], point["threshold"]) == (spec.temperature, spec.threshold)
    logits = [np.log(float(row["p_disc"])) - np.log(float(row["p_bar"])) for row in held_out]
    said = 1 / (1 + np.exp(-np.array(logits) / spec.temperature)) >= np.float32(spec.threshold)
    hits = [yes for yes, row in zip(said, held_out, strict=True) if row["label"] == "disc"]
    assert np.mean(hits) == pytest.approx(point["held_out"]["sensitivity"][0], abs=1e-5)
    assert np.mean(hits) >= 0.8
    assert spec.training["held_out"]["images"] == len(held_out) == spec.training["images"]["cal"]
    # Validation is judged as the model will be: its last epoch was judged at temperature 1.
    last = read_table(result.run / "history.csv")[-1]
    before = result.metrics["validation_at_temperature_1"]["log_loss"]
    assert before == pytest.approx(float(last["val_loss"]), abs=1e-4)
    assert spec.temperature == 1 or result.metrics["validation"]["log_loss"] != before


def test_three_labels_have_a_temperature_and_no_rule(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "data", counts={"bar": 16, "disc": 16, "ring": 16})
    word = {"group_regex": r"(?P<leaf>person\d+)_"}
    config = configure(folder, tmp_path / "run", calibration_split=0.25, epochs=1, **word)
    with pytest.raises(ConfigError, match="two labels"):
        train(configure(folder, tmp_path / "none", calibration_split=0.25, threshold_rule="balanced"))
    spec = train(config).spec
    assert spec.temperature != 1 and (spec.threshold, spec.uncertain) == (0.5, None)
    # The model says what its images are grouped by, unless it is patients.
    assert spec.training["group"] == "leaf"


def test_a_fixed_threshold_needs_no_patients_set_aside(data: Path, tmp_path: Path) -> None:
    config = configure(data, tmp_path / "run", threshold_rule="fixed 0.3", epochs=1)
    result = train(config)
    spec = ModelSpec.from_json((result.run / "spec.json").read_text())
    assert (spec.threshold, spec.threshold_rule, spec.temperature) == (0.3, "fixed 0.3", 1)
    assert not {"held_out", "group"} & set(spec.training) and "operating_point" not in result.metrics
    plain = train(configure(data, tmp_path / "plain", epochs=1))
    validation, before = result.metrics["validation"], plain.metrics["validation"]
    assert (validation["auc"], validation["log_loss"]) == (before["auc"], before["log_loss"])
    assert validation["threshold"] == 0.3 and before["threshold"] == 0.5


@pytest.mark.parametrize(("temperature", "told"), [(20.0, 1), (0.05, 1), (1.7, 0)])
def test_a_temperature_on_its_bound_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temperature: float, told: int
) -> None:
    monkeypatch.setattr("wetread.evaluate.held_out.fit_temperature", lambda *_: temperature)
    events: list = []
    config = configure(data, tmp_path / "run", calibration_split=0.25, epochs=1, subset=48)
    assert train(config, on_event=events.append).spec.temperature == temperature
    doubts = [describe_event(event) for event in events if isinstance(event, Doubted)]
    assert len(doubts) == told
    assert all(
        text.startswith(f"warning: the temperature ended on its bound, {temperature:g}") for text in doubts
    )


def test_a_label_without_a_readable_file_leaves_corrupt_csv(tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data", counts={"bar": 8})
    for number in range(3):
        (data / "disc").mkdir(exist_ok=True)
        (data / "disc" / f"{number}.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="None of the 3 files of 'disc'"):
        train(configure(data, tmp_path / "run"))
    rows = read_table(tmp_path / "run" / "corrupt.csv")
    assert [(row["name"], row["status"]) for row in rows] == [
        (f"disc/{number}.png", "not_an_image") for number in range(3)
    ]


def test_a_network_that_calls_all_images_the_same_is_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It barely learns at this rate: one label for all, which no bootstrap sees any doubt in."""
    events: list = []
    config = configure(data, tmp_path / "run", epochs=1, learning_rate=1e-9, augment="none")
    result = train(config, on_event=events.append)
    told = [describe_event(event) for event in events if isinstance(event, Doubted)]
    assert result.metrics["validation"]["only_answer"] in ("bar", "disc")
    assert any("calls all" in text and "--learning-rate" in text for text in told)
    _print_result(result)
    printed = capsys.readouterr().out
    assert "95% exact, by patient 0.0000 to 0." in printed
    assert "0.0000 to 0.0000" not in printed


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_says_how_to_go_on(
    begun: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if begun:
        (tmp_path / "config.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt), say_resume(str(tmp_path)):
        raise KeyboardInterrupt
    assert ("--resume" in capsys.readouterr().err) is begun
