"""Find out from its graph which activation a Keras network ends in; `train` and `export` use it.

Keras is not imported here: whoever passes a network has imported it.
"""

from __future__ import annotations

from typing import Any

# They only average or move values: probabilities stay probabilities, and logits stay logits.
_PASSING = (
    "Average",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "Identity",
    "Reshape",
    "Squeeze",
)
_ACTIVATIONS = ("Sigmoid", "Softmax")


def trace_activation(model: Any) -> str | None:
    """Name the activation behind a network's output: 'linear', 'sigmoid', 'softmax' or another of Keras'.

    Looks through networks inside it, operations of keras.ops, and layers that only average or rearrange.
    None where the graph does not show it: it ends in another operation, or in branches that differ.
    """
    outputs = getattr(model, "outputs", None)
    if not outputs:  # a Sequential that was never built
        layers = [layer for layer in model.layers if type(layer).__name__ not in _PASSING]
        return _name_activation(layers[-1]) if layers else None
    return _trace(outputs[0])


def _trace(tensor: Any) -> str | None:
    operation, node, place = tensor._keras_history
    if getattr(operation, "layers", None):
        return _trace(operation.outputs[place]) if operation.outputs else trace_activation(operation)
    if type(operation).__name__ not in _PASSING and not _is_plain(operation):
        return _name_activation(operation)
    found = {_trace(one) for one in operation._inbound_nodes[node].input_tensors}
    return found.pop() if len(found) == 1 else None


def _is_plain(operation: Any) -> bool:
    """Whether it is Activation('linear'), which casts a network in mixed precision back to float32."""
    return type(operation).__name__ == "Activation" and _name_activation(operation) == "linear"


def _name_activation(operation: Any) -> str | None:
    kind = type(operation).__name__
    if kind in _ACTIVATIONS:
        return kind.lower()
    activation = getattr(operation, "activation", None)
    return None if activation is None else str(getattr(activation, "__name__", type(activation).__name__))
