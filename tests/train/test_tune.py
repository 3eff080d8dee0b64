from __future__ import annotations

import csv
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.drawn import draw_folder
from tests.train.test_fit import StopError
from wetread.cli import run
from wetread.errors import ConfigError, OutputError, SourceError
from wetread.train.config import TrainConfig
from wetread.train.events import EpochEnded, TrialEnded, TrialStarted, describe_event
from wetread.train.tune import propose, tune, write_command

optuna = pytest.importorskip("optuna")


def configure(data: Path | str, output: Path | str, **values) -> TrainConfig:
    defaults = {"size": 20, "epochs": 1, "validation": 0.25, "augment": "xray"}
    return TrainConfig(data=str(data), output=str(output), **{**defaults, **values})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("tune") / "data", counts={"bar": 20, "disc": 20})


def test_a_trial_chooses_all_that_the_search_is_over() -> None:
    values = {"width": 24, "stages": 3, "convolutions": 1, "dropout": 0.2, "augment": 1.5}
    values |= {"learning_rate": 0.0012345, "weight_decay": 0.05, "batch_size": 64}
    found = propose(optuna.trial.FixedTrial(values, number=7), configure("/data", "/tune", seed=3))
    assert found == configure(
        "/data",
        "/tune/trial-0007",
        seed=3,
        cache="/tune/cache",
        architecture="stages-24-3-1-0.2",
        augment="xray:1.5",
        learning_rate=0.00123,
        weight_decay=0.05,
        batch_size=64,
    )
    still = propose(optuna.trial.FixedTrial({**values, "augment": 0.0}), configure("/data", "/tune"))
    assert still.augment == "none"


def test_every_choice_can_be_trained() -> None:
    """Whatever is drawn is a configuration that holds together, on the smallest and on larger images."""
    from wetread.train.architectures import check_architecture
    from wetread.train.augment import read_policy

    for size in (20, 64):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(100):
            found = propose(study.ask(), configure("/data", "/tune", size=size))
            check_architecture(found.architecture)
            read_policy(found.augment)
            assert size >> int(found.architecture.split("-")[2]) >= 2


def test_a_search_is_cut_off_goes_on_and_tells_the_best(data: Path, tmp_path: Path) -> None:
    """The second trial is cut off: it is begun again, and no trial is lost or counted twice."""
    config = configure(data, tmp_path / "tune")
    told: list = []

    def stop(event) -> None:
        told.append(event)
        if isinstance(event, EpochEnded) and sum(isinstance(one, TrialStarted) for one in told) == 2:
            raise StopError

    with pytest.raises(StopError):
        tune(config, trials=3, on_event=stop)
    first, second = (event.options for event in told if isinstance(event, TrialStarted))
    assert (first["width"], first["learning_rate"], first["augment"]) == (16, 1e-3, 1.0)
    with pytest.raises(OutputError, match="holds a search"):
        tune(config, trials=3)
    with pytest.raises(ConfigError, match="began with epochs 1, not 2"):
        tune(replace(config, epochs=2), trials=3, resume=True)
    with pytest.raises(ConfigError, match="began with metric 'auc', not 'loss'"):
        tune(config, trials=3, metric="loss", resume=True)
    events: list = []
    result = tune(config, trials=3, resume=True, on_event=events.append)
    started = [event for event in events if isinstance(event, TrialStarted)]
    assert started[0].options == second
    assert len(started) == 2
    assert "trial 2: width" in describe_event(started[0])
    assert [describe_event(e).split(",")[0] for e in events if isinstance(e, TrialEnded)] == [
        "trial 2: complete",
        "trial 3: complete",
    ]
    assert sorted(one.number for one in result.trials) == [0, 2, 3]
    values = [one.value for one in result.trials]
    assert values == sorted(values, reverse=True)
    best = TrainConfig.from_json((tmp_path / "tune" / "best.json").read_text())
    assert best == result.best
    assert best.architecture == result.trials[0].config.architecture
    with (tmp_path / "tune" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [one.number for one in result.trials]
    assert rows[0]["architecture"] == best.architecture
    assert [event for event in events if isinstance(event, EpochEnded)][-1].metrics["val_auc"] in values
    again = tune(config, trials=3, resume=True, on_event=events.append)
    assert again == result


def test_a_poor_trial_is_stopped_and_one_that_fails_is_passed_over(
    data: Path, tmp_path: Path, monkeypatch
) -> None:
    """Networks that only claim their figures: by trial, so that the median is known."""
    monkeypatch.setattr("wetread.train.tune._BEFORE_PRUNING", 2)
    figures = iter([0.8, 0.7, None, 0.3, 0.9])
    trained: list[tuple[float, int]] = []

    def claim(config: TrainConfig, *, on_event):
        value = next(figures)
        if value is None:
            raise ConfigError("Training diverged. Lower --learning-rate.")
        for epoch in range(1, 5):
            trained.append((value, epoch))
            on_event(EpochEnded(epoch=epoch, epochs=4, metrics={"val_auc": value}))

        class Result:
            metrics = {"history": [{"val_auc": value}]}  # noqa: RUF012

        return Result

    monkeypatch.setattr("wetread.train.tune.train", claim)
    result = tune(configure(data, tmp_path / "tune", epochs=4), trials=5)
    found = [(one.number, one.state, one.value) for one in result.trials]
    assert found == [
        *[(4, "complete", 0.9), (0, "complete", 0.8), (1, "complete", 0.7)],
        *[(3, "pruned", 0.3), (2, "failed", None)],
    ]
    assert [epoch for value, epoch in trained if value == 0.3] == [1, 2]
    figures = iter([None])
    with pytest.raises(ConfigError, match="Lower --learning-rate"):
        tune(configure(data, tmp_path / "none", epochs=4), trials=1)


def test_a_search_is_of_one_data_set(data: Path, tmp_path: Path, monkeypatch) -> None:
    class Result:
        metrics = {"history": [{"val_auc": 0.5}]}  # noqa: RUF012

    monkeypatch.setattr("wetread.train.tune.train", lambda config, *, on_event: Result)
    with pytest.raises(SourceError):
        tune(configure(tmp_path / "nowhere", tmp_path / "tune"), trials=1)
    tune(configure(data, tmp_path / "tune"), trials=1)  # what was mistyped took no place
    other = draw_folder(tmp_path / "other", counts={"bar": 12, "disc": 12})
    with pytest.raises(ConfigError, match="The search began with data '[0-9a-f]{64}', not"):
        tune(configure(other, tmp_path / "tune"), trials=2, resume=True)


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="metric must be one of"):
        tune(configure("/data", tmp_path), trials=1, metric="val_auc")
    with pytest.raises(ConfigError, match="trials must be"):
        tune(configure("/data", tmp_path), trials=0)
    with pytest.raises(ConfigError, match="local output"):
        tune(configure("/data", "gs://b/tune"), trials=1)
    with pytest.raises(ConfigError, match="leave architecture, backbone, weights, teacher and folds out"):
        tune(configure("/data", tmp_path, architecture="model-3"), trials=1)
    with pytest.raises(ConfigError, match="leave .* teacher and folds out"):
        tune(configure("/data", tmp_path, teacher="/run"), trials=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metric", ["sensitivity", "specificity"])
def test_a_metric_of_two_labels_is_not_searched_for_with_three(metric: str, tmp_path: Path) -> None:
    """Said before the search has begun: the same directory takes another metric."""
    folder = draw_folder(tmp_path / "data", counts={"bar": 8, "disc": 8, "ring": 8})
    with pytest.raises(ConfigError, match=f"metric cannot be '{metric}'.*3 labels.*balanced_accuracy"):
        tune(configure(folder, tmp_path / "tune"), trials=1, metric=metric)
    assert not list((tmp_path / "tune").glob("t*"))
    assert not (tmp_path / "tune" / "study.log").exists()


def test_the_command_says_what_is_not_the_default() -> None:
    best = configure("/data", "/tune", architecture="stages-8-2-1-0.0", weight_decay=0.05, augment="xray:0.5")
    assert write_command(best, output="my run") == (
        "wetread train /data --output 'my run' --validation 0.25 --size 20 --augment xray:0.5 "
        "--architecture stages-8-2-1-0.0 --epochs 1 --weight-decay 0.05"
    )


@pytest.mark.long
def test_the_command_trains_the_best_again(data: Path, tmp_path: Path, capsys) -> None:
    arguments = ["tune", str(data), "--output", str(tmp_path / "tune"), "--trials", "1", "--epochs", "1"]
    assert run([*arguments, "--size", "20", "--validation", "0.25", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "stages-16-3-2-0.3, learning rate 0.001, weight decay 0.01, batches of 32" in shown
    command = shown.split("the best: ")[1].strip()
    best = TrainConfig.from_json((tmp_path / "tune" / "best.json").read_text())
    assert command == write_command(best, output="RUN")
    words = shlex.split(command)
    assert words[:5] == ["wetread", "train", str(data), "--output", "RUN"]
    words[4] = str(tmp_path / "run")
    assert run([*words[1:], "--quiet"]) == 0
    of_trial, of_run = tmp_path / "tune" / "trial-0000", tmp_path / "run"
    assert (of_run / "history.csv").read_bytes() == (of_trial / "history.csv").read_bytes()
