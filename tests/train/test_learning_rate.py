"""The learning-rate finder, beside runs that were really trained at each rate."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

import wetread
from tests.train import networks
from tests.train.drawn import draw_folder
from tests.train.test_fit import StopError, configure
from wetread.cli import run
from wetread.errors import ConfigError, OutputError
from wetread.train.events import StepEnded
from wetread.train.fit import train
from wetread.train.learning_rate import LOWEST, STEPS, search_rate, smooth, suggest

RATES = np.geomspace(1e-6, 1, STEPS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("rate") / "data", counts={"bar": 40, "disc": 40})


def descend(rates: np.ndarray, *, curvature: float) -> np.ndarray:
    """The losses of plain gradient descent on curvature / 2 * x**2, one step at each rate."""
    place, losses = 1.0, []
    for rate in rates:
        losses.append(curvature / 2 * place**2)
        place -= rate * curvature * place
        if losses[-1] > 10 * losses[0]:  # the search, too, ends there
            break
    return np.array(losses)


@pytest.mark.parametrize("curvature", [3.0, 30.0, 300.0, 3000.0])
def test_a_quadratic_has_a_rate_that_is_known(curvature: float) -> None:
    """The best rate of gradient descent is 1 / curvature: there one step reaches the bottom."""
    losses = descend(RATES, curvature=curvature)
    rate, _ = suggest(RATES[: len(losses)], smooth(losses))
    assert abs(math.log10(rate * curvature)) <= 0.6  # it is rounded to one digit


def test_a_loss_that_falls_nowhere_suggests_nothing() -> None:
    noise = 0.7 + np.random.default_rng(0).normal(0, 0.02, STEPS)
    noise[-30:] += np.linspace(0, 5, 30)
    with pytest.raises(ConfigError, match="falls at none of the learning rates"):
        suggest(RATES, smooth(noise))


@pytest.mark.long
def test_the_suggestion_is_near_the_rate_that_trains_best(data: Path, tmp_path: Path) -> None:
    """Six runs of three epochs: the best of their rates is within a decade, and the suggestion no worse."""
    found = search_rate(configure(data, tmp_path / "run", augment="none"))
    losses = {}
    for rate in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, found.rate):
        config = configure(data, tmp_path / f"{rate:g}", augment="none", learning_rate=rate)
        losses[rate] = train(config).metrics["history"][-1]["loss"]
    best = min((rate for rate in losses if rate != found.rate), key=losses.__getitem__)
    assert abs(math.log10(found.rate / best)) <= 1
    assert losses[found.rate] <= 1.5 * losses[best] + 0.02


def test_it_leaves_a_picture_and_a_table_and_no_run(data: Path, tmp_path: Path, capsys) -> None:
    """The command and the function find the same; the run is then trained in that directory."""
    names = ["--architecture", "tests.train.networks:plain", "--size", "20", "--color", "gray"]
    names += [
        "--augment",
        "none",
        "--batch-size",
        "16",
        "--epochs",
        "1",
        "--no-near-identical",
        "--project",
        "payer",
    ]
    command = ["train", str(data), "--output", str(tmp_path / "run"), *names, "--quiet"]
    assert run([*command, "--find-learning-rate"]) == 0
    shown = capsys.readouterr().out
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {".lock", "cache", "learning_rate.csv", "learning_rate.png"}
    found = wetread.find_learning_rate(
        data,
        output=tmp_path / "other",
        architecture="tests.train.networks:plain",
        size=20,
        color="gray",
        augment="none",
        batch_size=16,
        epochs=1,
        near_identical=False,
    )
    assert f"learning rate  {found.rate:g}\n" in shown and found.reason in shown
    with (tmp_path / "run" / "learning_rate.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == pytest.approx(found.losses, rel=1e-5)
    assert float(rows[0]["learning_rate"]) == LOWEST == found.rates[0]
    used = shown.split("use it")[1].split("wetread ")[1].split()
    assert used[-2:] == ["--project", "payer"] and "--no-near-identical" in used
    assert run([*used, "--quiet"]) == 0
    assert (tmp_path / "run" / "model.keras").is_file()
    with pytest.raises(OutputError, match="finished run"):
        search_rate(configure(data, tmp_path / "run"))


@pytest.mark.parametrize("option", ["--resume", "--learning-rate=0.1"])
def test_options_that_contradict_it_are_refused(option: str, tmp_path: Path, capsys) -> None:
    assert run(["train", "DATA", "-o", str(tmp_path / "r"), "--find-learning-rate", option]) == 2
    assert f"{option.partition('=')[0]} cannot be used with --find" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--weights", "imagenet"), "'imagenet' need a backbone"),
        (("--backbone", "Mobile"), "There is no backbone 'Mobile'"),
        (("--weights", "none.h5", "--backbone", "VGG16"), "there is no file"),
        (("--architecture", "edges"), "There is no architecture 'edges'"),
    ],
)
def test_names_are_checked_as_for_a_run(
    options: tuple, words: str, data: Path, tmp_path: Path, capsys
) -> None:
    assert run(["train", str(data), "-o", str(tmp_path / "r"), "--find-learning-rate", *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_network_that_gives_no_numbers_has_no_rate(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(input_shape: tuple[int, int, int], outputs: int):
        model = networks.tiny(input_shape, outputs)
        model.layers[-1].bias.assign([np.nan] * outputs)
        return model

    monkeypatch.setattr(networks, "plain", broken)
    config = configure(data, tmp_path / "run", architecture="tests.train.networks:plain")
    with pytest.raises(ConfigError, match="not finite after 0 steps"):
        search_rate(config)


@pytest.mark.long
def test_a_search_that_was_cut_off_is_begun_again(data: Path, tmp_path: Path) -> None:
    def stop(event) -> None:
        if isinstance(event, StepEnded) and event.step == 20:
            raise StopError

    config = configure(data, tmp_path / "run", augment="none")
    with pytest.raises(StopError):
        search_rate(config, on_event=stop)
    again, whole = search_rate(config), search_rate(configure(data, tmp_path / "whole", augment="none"))
    assert again.losses == whole.losses
