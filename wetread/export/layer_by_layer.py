"""Layer by layer: where does an ONNX file begin to depart from Keras?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.export import network
from wetread.export.graph import LOGITS, find_outputs
from wetread.export.layer_tensors import LayerOutput, align, record_layers, run_tensors
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.classifier import Classifier

# What a layer's error may be, beside its output, before it is said to depart.
LIMITS = {"float32": 1e-4, "float16": 2e-2, "int8": 0.15}


@dataclass(frozen=True)
class LayerDifference:
    """One layer of one model: the error's root mean square beside the output's own, and the largest error.

    `departs` where that share is above 1e-4 (float32), 0.02 (float16) or 0.15 (int8).
    """

    model: str
    layer: str
    kind: str
    relative: float
    largest: float
    departs: bool


def compare_layers(
    wrapped: Any, classifiers: Sequence[Classifier], images: NDArray[np.uint8], spec: ModelSpec
) -> tuple[LayerDifference, ...]:
    """Compare what each layer gives for uint8 images (N, H, W, C), in the order in which Keras runs them.

    Layers that the conversion merged into others are left out: their outputs do not exist any more.
    """
    recorded = record_layers(wrapped, network.scale_pixels(images, spec))
    found = []
    for classifier in classifiers:
        model = onnx.load_from_string(read_model(classifier.name)[0])
        places = _find_places(model, recorded, spec)
        values = run_tensors(model, list(dict.fromkeys(places.values())), images)
        for layer in recorded:
            aligned = align(layer.values, values[places[layer.name]]) if layer.name in places else None
            if aligned is not None:
                found.append(_measure(classifier, layer, aligned))
    return tuple(found)


def _find_places(model: onnx.ModelProto, recorded: list[LayerOutput], spec: ModelSpec) -> dict[str, str]:
    """Which tensor holds which layer's output: the one of its name, and the logits for the last."""
    present = set(find_outputs(model)) - {output.name for output in model.graph.output}
    places = {layer.name: layer.name for layer in recorded if layer.name in present}
    if spec.head == "logits" and recorded:
        places[recorded[-1].name] = LOGITS
    return places


def _measure(classifier: Classifier, layer: LayerOutput, found: NDArray[Any]) -> LayerDifference:
    error = np.abs(found.astype(np.float64) - layer.values)
    size = float(np.sqrt(np.mean(layer.values.astype(np.float64) ** 2))) or 1.0
    relative = float(np.sqrt(np.mean(error**2))) / size
    return LayerDifference(
        model=classifier.name,
        layer=layer.name,
        kind=layer.kind,
        relative=relative,
        largest=float(error.max()),
        departs=not relative <= LIMITS[classifier.spec.precision],
    )
