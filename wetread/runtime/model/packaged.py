"""The model that is part of wetread, used if no other is named."""

from __future__ import annotations

import os
from pathlib import Path

from wetread.errors import ModelError, find_installation

PACKAGED_MODEL = "chest-xray.onnx"


def find_packaged_model() -> str:
    """Return the path of the packaged model. Raises ModelError if this installation lacks it."""
    path = Path(__file__).parents[2] / "models" / PACKAGED_MODEL
    if not path.is_file():
        raise ModelError(
            f"This installation lacks the packaged model {PACKAGED_MODEL}: there is none at {path}. "
            "Install wetread again, or name a model with --model MODEL.onnx."
        )
    return str(path)


def choose_model(model: str | os.PathLike[str] | None) -> str:
    """Return the name of the model to use: the one given, else the bundle's or the packaged one.

    Raises ModelError.
    """
    if model is not None:
        return os.fspath(model)
    folder = find_installation()
    return find_packaged_model() if folder is None else _find_bundled_model(folder)


def _find_bundled_model(folder: Path) -> str:
    """Return the model of a bundle: the bundle's author chose it, and no other may take its place."""
    path = folder / "model.onnx"
    if not path.is_file():
        raise ModelError(
            f"The bundle's model is missing: there is none at {path}. "
            "Install the bundle again, or name a model with --model MODEL.onnx."
        )
    return str(path)


def say_packaged() -> str:
    """Return a sentence that says which model is used without --model, and what it is for."""
    folder = find_installation()
    if folder is not None:
        return f"no --model given: using the bundle's, {_find_bundled_model(folder)}"
    return (
        f"no --model given: using the packaged {PACKAGED_MODEL}, for children's chest X-rays, NORMAL or "
        "PNEUMONIA. It is not a medical device"
    )
