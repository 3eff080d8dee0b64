"""Find the file of weights that were trained before. Nothing is ever downloaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from wetread.environment import find_keras_home
from wetread.errors import ConfigError
from wetread.runtime.entries import is_bucket_location
from wetread.train.backbones import BACKBONES
from wetread.train.config import TrainConfig

NONE, IMAGENET = "none", "imagenet"
# Files of a RUN directory: the first is there once it has begun, the last once it is finished.
_BEGIN, NETWORK, _END = "inputs.json", "model.keras", "metrics.json"
_OPTIONS = "config.json"
_PAGE = 1 << 20


def find_weights(config: TrainConfig) -> Path:
    """Find the file of a configuration's weights. Raises ConfigError where it is not there."""
    if config.weights == IMAGENET:
        return _find_imagenet(config)
    if is_bucket_location(config.weights):
        raise ConfigError(
            f"weights {config.weights!r} are in a bucket, and weights are read from this disk. Copy the "
            "file, or the run's folder, here first."
        )
    path = Path(config.weights)
    if (path / NETWORK).is_file() and (path / _END).is_file():
        return path / NETWORK
    if (path / NETWORK).is_file() or (path / _BEGIN).is_file():
        raise ConfigError(f"The run in {path} is not finished. Continue it with --resume first.")
    if path.is_dir():
        raise ConfigError(
            f"weights {config.weights!r} is a folder, and no run of wetread. If it is a SavedModel, write it "
            "as one file with: wetread convert FOLDER --output network.keras"
        )
    if not path.is_file():
        raise ConfigError(
            f"weights must be imagenet, none, a file or a run, and there is no file {config.weights!r}. "
            "Check the name."
        )
    return path


def check_weights(config: TrainConfig) -> None:
    """Refuse weights that are not there, or that no network takes. Raises ConfigError."""
    if config.backbone is None and config.weights == IMAGENET:
        raise ConfigError("weights 'imagenet' need a backbone: name one with --backbone.")
    if config.weights not in (NONE, IMAGENET):
        find_weights(config)


def _find_imagenet(config: TrainConfig) -> Path:
    """The published file of a backbone, in the cache where Keras would put it."""
    chosen = BACKBONES[config.backbone or ""]
    name = chosen.name_published(config.size)
    path = Path(find_keras_home()) / "models" / name
    if path.is_file():
        return path
    raise ConfigError(
        f"{config.backbone}'s ImageNet weights are not on this machine: there is no {path}, and wetread "
        "downloads nothing. Where there is a network, "
        f"keras.applications.{chosen.application}(include_top=False{_describe_call(config)}) downloads "
        f"{name} to ~/.keras/models. Bring the file here, and give it with --weights FILE."
    )


def _describe_call(config: TrainConfig) -> str:
    """The arguments with which Keras downloads the same file."""
    chosen = BACKBONES[config.backbone or ""]
    shape = f", input_shape=({config.size}, {config.size}, 3)" if config.size in chosen.sizes else ""
    return shape + (f", alpha={chosen.alpha}" if chosen.alpha not in (None, 1) else "")


def digest_weights(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal. Raises ConfigError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(_PAGE):
                digest.update(data)
    except OSError as error:
        raise ConfigError(f"The weights in {path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def read_options(run: Path) -> dict[str, Any]:
    """Return the options of a run; empty where there is none. Raises ConfigError for a damaged file."""
    described = run / _OPTIONS
    if not described.is_file():
        return {}
    try:
        values = json.loads(described.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{described} cannot be read: {error}. Copy the whole run again.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{described} holds no options. Copy the whole run again.")
    return values
