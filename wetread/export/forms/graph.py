"""A frozen graph as one Keras layer, so that it is converted and compared as every network is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from wetread.errors import ExportError
from wetread.export.forms.frozen_function import Frozen
from wetread.keras_backend import import_keras

_PASSING = ("Identity", "Reshape", "Squeeze")
_ACTIVATIONS = {"Sigmoid": "sigmoid", "Softmax": "softmax", "BiasAdd": "linear", "MatMul": "linear"}


def make_network(frozen: Frozen) -> Any:
    """A network of one layer that runs a graph; its outputs are called as the graph's are.

    Raises ExportError unless the graph takes one image, channels last.
    """
    keras = import_keras()
    if len(frozen.shape) != 4:
        raise ExportError(f"The network must take one image (N, H, W, C); its input is {frozen.shape}.")
    image = keras.Input(frozen.shape[1:], name="image")
    outputs = {name: _graph_layer()(frozen, name)(image) for name in frozen.outputs}
    return keras.Model(image, next(iter(outputs.values())) if len(outputs) == 1 else outputs, name="graph")


@lru_cache(maxsize=1)
def _graph_layer() -> Any:
    import keras
    import tensorflow

    class GraphLayer(keras.layers.Layer):  # type: ignore[misc]
        """One output of a frozen graph."""

        def __init__(self, frozen: Frozen, output: str) -> None:
            super().__init__(name=f"graph_{output}".replace("/", "_").replace(":", "_"), trainable=False)
            definition = tensorflow.compat.v1.GraphDef()
            definition.ParseFromString(frozen.graph)
            tensor = frozen.outputs[output]
            self.activation = _find_activation(definition, tensor)
            self._run = tensorflow.function(
                lambda image: tensorflow.graph_util.import_graph_def(
                    definition, input_map={frozen.input: image}, return_elements=[tensor], name=""
                )[0]
            )

        def call(self, image: Any) -> Any:
            return self._run(image)

    return GraphLayer


def _find_activation(definition: Any, tensor: str) -> Any:
    """What a graph ends in, as Keras' own function; None where it is none that the last operation tells."""
    import keras

    nodes = {node.name: node for node in definition.node}
    node = nodes[tensor.partition(":")[0]]
    while node.op in _PASSING:
        node = nodes[node.input[0].partition(":")[0]]
    return getattr(keras.activations, _ACTIVATIONS[node.op]) if node.op in _ACTIVATIONS else None
