"""wetread: train a small CNN, export it to ONNX, score folders of images with it.

    from wetread import Classifier

    classifier = Classifier("model.onnx")
    for prediction in classifier.score("folder"):
        print(prediction.path, prediction.label, prediction.probability)

The commands `train`, `export`, `parity` and `evaluate` are functions as well, with the same options:

    wetread.train("DATA", output="run")
    wetread.export("run", output="model.onnx", precision="int8")
    wetread.parity("run", "model.onnx", images="DATA").passed
    wetread.evaluate("DATA", model="model.onnx").metrics.auc

The same file gives the same probability on every machine, and never a silently wrong one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wetread.environment import switch_telemetry_off

if TYPE_CHECKING:
    from wetread import errors
    from wetread.evaluate.evaluation import Evaluation
    from wetread.evaluate.interface import evaluate, evaluate_by_readers
    from wetread.evaluate.reader_labels import Judgement
    from wetread.export.interface import export, parity
    from wetread.export.options import ExportResult
    from wetread.export.report import ParityReport
    from wetread.runtime.images.pixels import read_pixels
    from wetread.runtime.images.recipe import PixelRecipe
    from wetread.runtime.model.spec import ModelSpec
    from wetread.runtime.scoring.classifier import Classifier
    from wetread.runtime.scoring.rows import Prediction
    from wetread.train.fit import TrainResult
    from wetread.train.interface import find_learning_rate, pretrain, train
    from wetread.train.learning_rate import RateSearch
    from wetread.train.pretraining import PretrainResult

switch_telemetry_off()  # onnxruntime reads its variable once, when it is imported

__all__ = [
    "Classifier",
    "Evaluation",
    "ExportResult",
    "Judgement",
    "ModelSpec",
    "ParityReport",
    "PixelRecipe",
    "Prediction",
    "PretrainResult",
    "RateSearch",
    "TrainResult",
    "errors",
    "evaluate",
    "evaluate_by_readers",
    "export",
    "find_learning_rate",
    "parity",
    "pretrain",
    "read_pixels",
    "train",
]

_MODULES = (
    "errors",
    "evaluate",
    "export",
    "train",
)  # the last three are functions too: wetread.keyword_functions
_HOMES = {
    "Classifier": "wetread.runtime.scoring.classifier",
    "Evaluation": "wetread.evaluate.evaluation",
    "ExportResult": "wetread.export.options",
    "Judgement": "wetread.evaluate.reader_labels",
    "ModelSpec": "wetread.runtime.model.spec",
    "ParityReport": "wetread.export.report",
    "PixelRecipe": "wetread.runtime.model.spec",
    "Prediction": "wetread.runtime.scoring.rows",
    "PretrainResult": "wetread.train.pretraining",
    "RateSearch": "wetread.train.learning_rate",
    "TrainResult": "wetread.train.fit",
    "evaluate_by_readers": "wetread.evaluate.interface",
    "find_learning_rate": "wetread.train.interface",
    "parity": "wetread.export.interface",
    "pretrain": "wetread.train.interface",
    "read_pixels": "wetread.runtime.images.pixels",
}


def __getattr__(name: str) -> Any:
    """Import a name's module when it is first used: `import wetread` alone imports nothing heavy."""
    if name in _MODULES:
        return import_module(f"wetread.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'wetread' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
