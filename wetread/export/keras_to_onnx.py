"""Keras to a float32 graph that keeps the contract, and the proof that it says what Keras says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export import contract, graph, layer_tensors, network
from wetread.export.description import PROBES, draw_probes
from wetread.export.judging import classify_all
from wetread.export.tolerance import TOLERANCE
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.classifier import Classifier

LOGITS_TOLERANCE = 1e-3


def build_graph(wrapped: Any, spec: ModelSpec) -> onnx.ModelProto:
    """Convert a wrapped network and bring its graph to the contract, in float32, named by its layers."""
    model = network.convert_network(wrapped)
    contract.attach_pixels(model, spec)
    contract.attach_head(model, spec)
    graph.freeze_shapes(model)
    model = graph.simplify(model)
    probes = draw_probes(spec)[:2]
    recorded = layer_tensors.record_layers(wrapped, network.scale_pixels(probes, spec))
    layer_tensors.name_layers(model, recorded, probes)
    if spec.head == "logits":
        _compare_logits(model, spec, probes, wrapped)
    return model


def _compare_logits(model: onnx.ModelProto, spec: ModelSpec, probes: NDArray[np.uint8], wrapped: Any) -> None:
    """Hold the logits to Keras' own: probabilities that are 0 and 1 would agree whatever they come from."""
    with network.quiet():
        keras = np.asarray(wrapped.predict_on_batch(network.scale_pixels(probes, spec)), np.float64)
    found = layer_tensors.run_tensors(model, [graph.LOGITS], probes)[graph.LOGITS]
    size = max(float(np.abs(keras).max()), 1.0)
    difference = float(np.abs(found - keras).max()) / size
    if not difference <= LOGITS_TOLERANCE:
        raise ExportError(
            f"The converted logits are off from Keras' by {difference:.2g} of their size; "
            f"{LOGITS_TOLERANCE:g} is accepted: a layer of this network is not converted as Keras computes "
            "it. "
            "Nothing was written. Replace unusual layers one by one to find it."
        )


def compare_with_keras(
    model: onnx.ModelProto, spec: ModelSpec, images: NDArray[np.uint8], keras: NDArray[np.float64]
) -> float:
    """The largest difference of a probability between a float32 graph in the runtime and Keras.

    One at a time and in batches. Raises ExportError where it is more than 1e-4.
    """
    classifier = Classifier(contract.finish(model, spec), device="cpu")
    alone = np.concatenate([classifier.classify(images[i : i + 1]) for i in range(min(PROBES, len(images)))])
    together = classify_all(classifier, images)
    difference = max(float(np.abs(together - keras).max()), float(np.abs(alone - keras[: len(alone)]).max()))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"The converted probabilities are off from Keras' by {difference:.2g}; {TOLERANCE:g} is "
            f"accepted: a layer of this network is not converted as Keras computes it. Nothing "
            "was written. Replace unusual layers one by one to find it."
        )
    return difference
