from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.train.drawn import configure_xray, draw_folder
from tests.train.networks import diverging, plain
from tests.train.teacher_runs import make_teacher, save_network
from wetread.errors import ConfigError, DatasetError
from wetread.runtime.images.recipe import PixelRecipe
from wetread.train import teacher_networks
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset, load_dataset
from wetread.train.events import ImagesRead
from wetread.train.network import predict_probabilities
from wetread.train.teacher_networks import ImageReader, Place, open_member

SMALL = {"height": 20, "width": 20}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    place = tmp_path_factory.mktemp("networks")
    data = draw_folder(place / "data", counts={"bar": 8, "disc": 8})
    return configure_xray(data=str(data), output=str(place / "run"), size=20, validation=0.25)


@pytest.fixture(scope="module")
def found(config: TrainConfig) -> Dataset:
    return load_dataset(config)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("whole") / "run", ["bar/person0_0.jpg"])


def open_run(run: Path, found: Dataset, config: TrainConfig) -> teacher_networks.Member:
    reader = ImageReader(found, config, lambda _: None)
    return open_member(Place(run, is_run=True), found, reader)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def build_lambda() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((20, 20, 1)), layers.Flatten(), layers.Lambda(lambda x: x * 2), layers.Dense(1)]
    )


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no spec": (lambda run: (run / "spec.json").unlink(), "spec.json cannot be read: .*No such file"),
    "a cut spec": (lambda run: cut(run / "spec.json"), "spec.json cannot be read: .*not valid JSON"),
    "bytes": (lambda run: (run / "spec.json").write_bytes(b"\xff\xfe\0"), "spec.json cannot be read"),
    "a newer spec": (
        lambda run: rewrite(run / "spec.json", version=9),
        "spec.json cannot be read: .*version 9",
    ),
    "a cut network": (lambda run: cut(run / "model.keras"), "model.keras cannot be read"),
    "an empty network": (lambda run: (run / "model.keras").write_bytes(b""), "model.keras cannot be read"),
    "a text": (lambda run: (run / "model.keras").write_text("no network"), "model.keras cannot be read"),
    "no network": (lambda run: (run / "model.keras").unlink(), "model.keras cannot be read"),
    "code": (
        lambda run: save_network(build_lambda(), run / "model.keras"),
        "cannot be read: .*`Lambda` layer",
    ),
    "another size": (lambda run: save_network(plain((24, 24, 3), 1), run / "model.keras"), "incompatible"),
    "other labels": (
        lambda run: save_network(plain((20, 20, 1), 3), run / "model.keras"),
        r"model.keras answers \(1, 3\), and its spec.json has 2 labels",
    ),
    "no numbers": (
        lambda run: save_network(diverging((20, 20, 1), 1), run / "model.keras"),
        "model.keras has weights that are not finite",
    ),
}


@pytest.mark.parametrize(("damage", "match"), DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_teacher_is_one_clear_error(
    damage: Callable[[Path], None],
    match: str,
    whole: Path,
    found: Dataset,
    config: TrainConfig,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    damage(run)
    with pytest.raises(ConfigError, match=match) as raised:
        open_run(run, found, config)
    assert str(run) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_teacher_sees_pixels_as_its_spec_says(
    whole: Path, found: Dataset, config: TrainConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    rewrite(run / "spec.json", scale=[1 / 127.5], offset=[-1.0])
    images = found.pixels[:5]
    network = keras.models.load_model(run / "model.keras", compile=False)
    inside = keras.Sequential([keras.Input((20, 20, 1)), keras.layers.Rescaling(2.0, -1.0), network])
    expected = predict_probabilities(inside, images, np.arange(5))
    member, before = (open_run(one, found, config) for one in (run, whole))
    np.testing.assert_allclose(member.answer(images), expected, atol=1e-5)
    assert np.abs(before.answer(images) - expected).max() > 1e-3
    assert member.digest != before.digest
    assert member.pixels is None


def test_each_recipe_is_read_once_and_said(found: Dataset, config: TrainConfig) -> None:
    told: list = []
    reader = ImageReader(found, config, told.append)
    assert reader.read(config.recipe()) is None
    assert told == []
    colored = reader.read(PixelRecipe(**{**SMALL, "height": 12, "color": "rgb"}))
    assert colored is not None
    assert colored.shape == (16, 12, 20, 3)
    count = len(told)
    assert told[-1] == ImagesRead(done=16, total=16)
    assert reader.read(PixelRecipe(**{**SMALL, "height": 12, "color": "rgb"})) is colored
    assert len(told) == count


def test_images_that_changed_or_cannot_be_read_by_the_teacher_are_named(
    found: Dataset, config: TrainConfig, tmp_path: Path
) -> None:
    recipe = PixelRecipe(height=16, width=16)
    data = tmp_path / "data"
    shutil.copytree(config.data, data)
    moved = replace(config, data=str(data), output=str(tmp_path / "run"))
    (data / "bar" / "person1_3.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"reads images at 16 x 16, and 1 of .*bar/person1_3\.png say"):
        ImageReader(found, moved, lambda _: None).read(recipe)
    (data / "bar" / "person1_3.png").unlink()
    with pytest.raises(DatasetError, match="changed while the run began"):
        ImageReader(found, moved, lambda _: None).read(recipe)
