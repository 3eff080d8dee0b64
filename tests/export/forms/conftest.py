"""Networks of Keras 2 as tf_keras itself writes them, with its own answers: made once, in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.export.networks import draw_lamp

ROOT = Path(__file__).parents[3]
WEIGHTS = {"legacy.json": "legacy.weights2.h5", "checkpoint.json": "ckpt", "new.json": "new.weights.h5"}
COUNT = 160


def draw_pixels(folder: Path) -> None:
    """gray.npz and color.npz: lamps that are brighter on one side, and which."""
    folder.mkdir(exist_ok=True)
    pictures, targets = zip(*[draw_lamp(seed, side=32) for seed in range(COUNT)], strict=True)
    gray = np.stack(pictures)[..., None]
    tints = np.random.default_rng(0).uniform(0.6, 1.2, (COUNT, 1, 1, 3))
    color = np.clip(gray * tints, 0, 255).astype(np.uint8)
    np.savez(folder / "gray.npz", pixels=gray, targets=np.array(targets))
    np.savez(folder / "color.npz", pixels=color, targets=np.array(targets))


def make_zoo(folder: Path, *arguments: str) -> Path:
    """Let tf_keras write its files."""
    if find_spec("tf_keras") is None:
        pytest.skip("tf_keras is not installed (the extra keras2)")
    draw_pixels(folder)
    subprocess.run(
        [sys.executable, "-m", "tests.export.forms.maker", str(folder), *arguments],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    return folder


QUICK = (
    "named-otherwise.keras",
    "no-extension",
    "nested.h5",
    "older.keras",
    "legacy.json",
    "teachable",
    "two-outputs.h5",
    "lambda.h5",
    "custom-saved",
)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the forms, not trained."""
    return make_zoo(tmp_path_factory.mktemp("forms") / "zoo", "--layers", *QUICK)


@pytest.fixture(scope="session")
def trained_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All forms, trained. A folder in $WETREAD_FORMS that an earlier run made is taken as it is."""
    if kept := os.environ.get("WETREAD_FORMS"):
        return Path(kept)
    return make_zoo(tmp_path_factory.mktemp("forms") / "trained", "--train")


@pytest.fixture
def without_tf_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra keras2 were not installed."""
    from wetread.export.forms import keras2

    monkeypatch.setattr(keras2, "has_tf_keras", lambda: False)


def read_pixels(zoo: Path, channels: int) -> np.ndarray:
    """The pixels that tf_keras was asked about, uint8 (N, 32, 32, channels)."""
    with np.load(zoo / ("gray.npz" if channels == 1 else "color.npz")) as file:
        return file["pixels"]


def ask(model: object, pixels: np.ndarray) -> np.ndarray:
    """What a network says of pixels from 0 to 1."""
    import keras

    images = keras.tree.map_structure(lambda _: pixels * np.float32(1 / 255), model.input)
    return np.asarray(keras.tree.flatten(model(images, training=False))[0])
