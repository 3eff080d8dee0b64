"""wetread: train a small CNN, export it to ONNX, score folders of images with it.

    from wetread import Classifier

    classifier = Classifier("model.onnx")
    for prediction in classifier.score("folder"):
        print(prediction.path, prediction.label, prediction.probability)

The same file gives the same probability on every machine, and never a silently wrong one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wetread.environment import switch_telemetry_off

if TYPE_CHECKING:
    from wetread import errors
    from wetread.runtime.images.recipe import PixelRecipe
    from wetread.runtime.model.spec import ModelSpec
    from wetread.runtime.scoring.classifier import Classifier
    from wetread.runtime.scoring.rows import Prediction

switch_telemetry_off()  # onnxruntime reads its variable once, when it is imported

__all__ = ["Classifier", "ModelSpec", "PixelRecipe", "Prediction", "errors"]

_HOMES = {
    "Classifier": "wetread.runtime.scoring.classifier",
    "ModelSpec": "wetread.runtime.model.spec",
    "PixelRecipe": "wetread.runtime.model.spec",
    "Prediction": "wetread.runtime.scoring.rows",
}


def __getattr__(name: str) -> Any:
    """Import a name's module when it is first used: `import wetread` alone imports nothing heavy."""
    if name == "errors":
        return import_module("wetread.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'wetread' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
