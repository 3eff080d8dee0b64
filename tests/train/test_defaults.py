from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.train.drawn import draw_folder, write_image
from tests.train.test_fit import StopError, stop_after
from wetread.cli import app
from wetread.errors import ConfigError
from wetread.evaluate.labelled_folders import list_data
from wetread.train.config import CHOSEN, TrainConfig
from wetread.train.dataset_traits import find_traits, measure_layout
from wetread.train.defaults import XRAY, adopt, settle
from wetread.train.events import DefaultsChosen, describe_event
from wetread.train.fit import train

Draw = Callable[[np.random.Generator], np.ndarray]
TINY = "tests.train.networks:tiny"


def fill(folder: Path, draw: Draw, *, labels: int = 2, each: int = 14) -> TrainConfig:
    """Write images of one kind, and return a configuration of nothing but places."""
    chance = np.random.default_rng(0)
    for label in "abcdefghij"[:labels]:
        for number in range(each):
            write_image(folder / "data" / label / f"{number}.png", draw(chance).astype(np.uint8))
    return TrainConfig(data=str(folder / "data"), output=str(folder / "run"))


def draw_xray(chance: np.random.Generator, *, side: int = 90) -> np.ndarray:
    """What is always at the same place: a bright frame with noise."""
    image = np.full((side, side + 8), 40.0)
    image[side // 4 : -side // 4, side // 4 : -side // 4] = 180
    return image + chance.uniform(0, 30, image.shape)


def draw_digit(chance: np.random.Generator) -> np.ndarray:
    return draw_xray(chance, side=20)


def draw_texture(chance: np.random.Generator) -> np.ndarray:
    return chance.uniform(0, 255, (40, 40))


def draw_photo(chance: np.random.Generator) -> np.ndarray:
    return draw_xray(chance, side=40)[..., None] * chance.uniform(0.3, 1, 3)


def test_gray_images_of_two_labels_are_trained_as_ever(tmp_path: Path) -> None:
    """The recipe that the figures in docs/results are of, whole: nobody's X-ray run changes."""
    for number, draw in enumerate((draw_xray, draw_texture)):  # whatever their layout
        config = settle(fill(tmp_path / str(number), draw))
        assert {name: getattr(config, name) for name in CHOSEN} == XRAY
    config = settle(fill(tmp_path, draw_xray))
    assert XRAY == {
        "color": "gray",
        "size": 64,
        "augment": "xray",
        "architecture": "edge",
        "epochs": 10,
        "batch_size": 32,
        "learning_rate": 0.001,
    }
    assert config.preset == "xray"
    assert (
        config.reasons["preset"] == "the images are gray, 90 pixels on the shorter side, and have two labels"
    )


@pytest.mark.parametrize(
    ("draw", "values"),
    [
        (draw_photo, {"preset": "photo", "color": "rgb", "size": 48, "augment": "photo"}),
        (draw_texture, {"preset": "texture", "color": "gray", "size": 48, "augment": "texture"}),
        (draw_digit, {"preset": "document", "color": "gray", "size": 32, "augment": "document"}),
    ],
    ids=["photo", "texture", "document"],
)
def test_other_images_are_told_apart(draw: Draw, values: dict, tmp_path: Path) -> None:
    events: list = []
    config = settle(fill(tmp_path, draw, labels=3), on_event=events.append)
    chosen = {**values, "architecture": "photo", "epochs": 40, "batch_size": 16, "learning_rate": 5e-3}
    assert {name: getattr(config, name) for name in ("preset", *CHOSEN)} == chosen
    (event,) = events
    assert event == DefaultsChosen(options=chosen, reasons=config.reasons)
    lines = describe_event(event).splitlines()
    assert len(lines) == 8
    assert lines[0] == f"preset {values['preset']}: {config.reasons['preset']}"
    assert f"  size {values['size']}: half of the images are" in "\n".join(lines)
    assert settle(config) is config


def test_many_images_need_fewer_epochs_and_larger_batches(tmp_path: Path) -> None:
    config = fill(tmp_path, draw_xray, labels=3, each=100)
    assert settle(config).epochs == 27
    assert settle(replace(config, subset=240)).epochs == 33
    assert settle(config).batch_size == 32  # X-rays, whatever their number


def test_what_is_given_stays(tmp_path: Path) -> None:
    config = fill(tmp_path, draw_photo)
    given = replace(config, color="gray", size=20, epochs=2)
    settled = settle(given)
    assert (settled.color, settled.size, settled.epochs, settled.augment) == ("gray", 20, 2, "photo")
    assert set(settled.reasons) == {"preset", "augment", "architecture", "batch_size", "learning_rate"}
    forced = settle(replace(config, preset="xray"))
    assert {name: getattr(forced, name) for name in CHOSEN} == XRAY
    large = settle(replace(config, backbone="MobileNetV2"))
    assert (large.network, large.learning_rate) == ("MobileNetV2", 1e-3)
    assert (large.size, settle(replace(config, backbone="Xception")).size) == (48, 96)
    with pytest.raises(ConfigError, match="preset must be one of xray, photo, document, texture"):
        replace(config, preset="cat")


def test_a_network_that_was_trained_before_gets_its_size_and_its_stages(tmp_path: Path) -> None:
    (tmp_path / "body.h5").write_bytes(b"weights")
    values = {"backbone": "MobileNetV2", "weights": str(tmp_path / "body.h5")}
    xray = settle(replace(fill(tmp_path / "xray", draw_xray), **values))
    assert (xray.size, xray.color, xray.freeze_epochs, xray.fine_tune_learning_rate) == (96, "gray", 5, 1e-4)
    assert xray.weights_digest == hashlib.sha256(b"weights").hexdigest()
    assert "the network repeats gray in the three channels of its backbone" in xray.reasons["color"]
    assert xray.reasons["architecture"] == "not used: a backbone is the network"
    assert settle(xray) == xray
    told: list[DefaultsChosen] = []
    photo = replace(fill(tmp_path / "photo", draw_photo), **values, freeze_epochs=0, epochs=3)
    photo = settle(photo, on_event=told.append)
    assert (photo.color, photo.freeze_epochs, photo.fine_tune_learning_rate) == ("rgb", 0, None)
    assert "freeze_epochs" not in told[0].options
    run = tmp_path / "old"
    run.mkdir()
    (run / "model.keras").write_bytes(b"network")
    (run / "metrics.json").write_bytes(b"{}")
    (run / "config.json").write_text(xray.to_json())
    again = settle(replace(fill(tmp_path / "again", draw_photo), weights=str(run)))
    assert (again.network, again.size, again.color) == ("MobileNetV2", 96, "gray")
    assert again.reasons["backbone"] == "as in the run whose weights are loaded"
    assert adopt(replace(fill(tmp_path, draw_photo), weights=str(run)), again).network == "MobileNetV2"
    other = settle(replace(fill(tmp_path, draw_photo), weights=str(run), architecture="edge"))
    assert (other.network, other.size) == ("edge", 96)
    short = settle(replace(xray, weights_digest=None, freeze_epochs=None, epochs=1))
    assert short.freeze_epochs == 1


def test_a_layout_is_what_images_have_in_common() -> None:
    chance = np.random.default_rng(1)
    noise = [chance.normal(size=(64, 64)) for _ in range(24)]
    assert measure_layout(noise) == pytest.approx(1, abs=0.1)
    assert measure_layout([noise[0] * scale + 3 for scale in (1.0, 2.0, 5.0)]) == pytest.approx(3)
    assert measure_layout([np.zeros((4, 4))] * 3) == 0


def test_images_that_cannot_be_read_do_not_count(tmp_path: Path) -> None:
    config = fill(tmp_path, draw_digit, each=6)
    for path in (tmp_path / "data" / "a").iterdir():
        path.write_bytes(b"no image")
    listing = list_data(config.data, None)
    traits = find_traits(listing, listing.images)
    assert (traits.images, traits.checked, traits.side) == (12, 6, 20)


def test_a_resumed_run_keeps_what_it_chose(tmp_path: Path) -> None:
    old = settle(fill(tmp_path, draw_photo))
    open_one = TrainConfig(data=old.data, output=old.output)
    assert adopt(open_one, old) == old
    assert adopt(replace(open_one, size=20), old) == replace(old, size=20)
    other = replace(open_one, preset="texture")
    assert adopt(other, old) is other


@pytest.mark.long
def test_a_killed_run_of_chosen_options_ends_the_same(tmp_path: Path) -> None:
    draw_folder(tmp_path / "data", counts={"bar": 20, "disc": 20}, color=True)
    values = {"architecture": TINY, "epochs": 3, "batch_size": 8}  # only to be quick
    config = TrainConfig(data=str(tmp_path / "data"), output=str(tmp_path / "run"), **values)
    whole = train(replace(config, output=str(tmp_path / "whole")))
    with pytest.raises(StopError):
        train(config, on_event=stop_after(1))
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["color"] == "rgb"
    assert saved["reasons"]["color"] == "24 of 24 images checked are in colour"
    result = train(config, resume=True)
    assert result.new_epochs == 2
    assert (result.run / "history.csv").read_bytes() == (whole.run / "history.csv").read_bytes()
    with pytest.raises(ConfigError, match="began with augment 'photo', not 'texture'"):
        train(replace(config, preset="texture"), resume=True)


def test_the_command_line_prints_and_saves_the_reasons(tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data", counts={"bar": 12, "disc": 12}, color=True)
    command = ["train", str(data), "--output", str(tmp_path / "run"), "--epochs", "1", "--size", "20"]
    done = CliRunner().invoke(app, [*command, "--architecture", TINY, "--preset", "texture"])
    assert done.exit_code == 0, done.output
    assert "preset texture: it was given\n  color rgb: 24 of 24 images checked are in colour\n" in done.stderr
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (saved["preset"], saved["augment"], saved["size"]) == ("texture", "texture", 20)
    assert "size" not in saved["reasons"]
    assert CliRunner().invoke(app, [*command, "--preset", "cat"]).exit_code != 0
