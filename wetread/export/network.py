"""The Keras side of an export: load a network, tell what it ends in, convert it, ask it for probabilities.

The only module of this room that imports TensorFlow, and only inside functions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from wetread.errors import ExportError
from wetread.export.graph import OPSET
from wetread.keras_backend import import_keras
from wetread.output_activation import trace_activation
from wetread.runtime.model.spec import ModelSpec

_UNSUPPORTED = re.compile(r"Tensorflow op \[([^:\]]+): (\w+)\] is not supported")
_WAYS_ROUND = {
    "Einsum": "use Dense or Dot layers",
    "ScaleAndTranslate": "use Resizing with antialias=False",
    "MatrixDiagPartV3": "compute it before training, outside the network",
}


def load_network(path: str | os.PathLike[str], *, called: str | os.PathLike[str] | None = None) -> Any:
    """Load a `.keras` or HDF5 file by Keras 3, in safe mode: no code of its author's runs.

    `called`: the name that its user knows, where `path` stands for another. `wetread.export.forms` opens
    every other form. Raises ExportError for a file that is missing, damaged, or holds a Lambda or a custom
    layer.
    """
    called = Path(path if called is None else called)
    if not Path(path).is_file():
        raise ExportError(f"{called} does not exist. Name a Keras network.")
    keras = import_keras()
    try:
        with quiet():
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ExportError(explain_load(called, str(error))) from error


def explain_load(path: Path, message: str) -> str:
    """Say what Keras' words mean, that it raises where it cannot load a network, and what to do."""
    if "ambda" in message:
        return (
            f"{path}: the network has a Lambda layer, which is arbitrary code and is not run. Put a layer "
            "in its place: Rescaling, Activation, Reshape or "
            "keras.ops on the functional API; or give a function of its name with --custom my_module."
        )
    custom = re.search(
        r"Could not locate (?:class|function) '([^']+)'|Unknown \w+(?: \w+)?: '([^']+)'", message
    )
    if custom:
        return (
            f"{path}: the network needs '{custom[1] or custom[2]}', which is its author's own code. Give "
            "the code with --custom my_module, which is run; or put "
            "Keras' own layers in its place and save it again."
        )
    reason = " ".join(message.rpartition("Exception encountered:")[2].split())
    return (
        f"{path}: Keras 3 cannot load the network: {reason[:400].rstrip('.')}. Build "
        "it from Keras' own layers and save it again."
    )


@contextlib.contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep third parties' warnings and logging off the screen; yields what tf2onnx logged as errors."""
    messages: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow", "absl")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield messages
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def keras_versions() -> dict[str, str]:
    """The versions of what computes a network's own answers."""
    keras = import_keras()
    import tensorflow

    return {"keras": str(keras.__version__), "tensorflow": str(tensorflow.__version__)}


def network_shape(model: Any) -> tuple[int | None, int | None, int | None]:
    """(height, width, channels) that a network takes; None where it leaves a side open.

    Raises ExportError unless it takes one image, channels last.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return (None, None, None)
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise ExportError(f"The network must take one image (N, H, W, C); its inputs are {shapes}.")
    height, width, channels = inputs[0].shape[1:]
    if channels not in (1, 3, None):
        raise ExportError(
            f"The network's input must have 1 or 3 channels, last; its shape is {(height, width, channels)}."
        )
    return (height, width, channels)


def wrap_network(model: Any, shape: tuple[int, int, int]) -> Any:
    """The network in inference mode, on images of a fixed size.

    Called anew with training=False, or Resizing and Random layers at its start would switch BatchNorm to
    the statistics of the batch in what is exported.
    """
    keras = import_keras()
    _need_float32(model)
    _need_finite(model)
    image = keras.Input(shape, name="image")
    try:
        with quiet():
            result = model(_pack_input(model, image), training=False)
    except Exception as error:
        raise ExportError(
            f"The network does not take images of shape {shape}: "
            f"{' '.join(str(error).split())[:300]}. Give the size that it was trained at."
        ) from error
    return keras.Model(image, _take_output(model, keras.tree.flatten(result)), name="network")


def _pack_input(model: Any, image: Any) -> Any:
    """One image as the network takes it: alone, or in its list or dict of one."""
    inputs = getattr(model, "input", None) if getattr(model, "inputs", None) else None
    return image if inputs is None else import_keras().tree.map_structure(lambda _: image, inputs)


def _take_output(model: Any, outputs: list[Any]) -> Any:
    """The one output (N, K) of a network, however it is wrapped. Raises ExportError, naming the outputs."""
    if len(outputs) == 1 and len(outputs[0].shape) == 2 and outputs[0].shape[1] is not None:
        return outputs[0]
    names = list(getattr(model, "output_names", None) or [])
    names = names if len(names) == len(outputs) else [f"output {i}" for i in range(len(outputs))]
    shown = ", ".join(f"'{name}' {tuple(one.shape)}" for name, one in zip(names, outputs, strict=True))
    advice = (
        "Choose one: save keras.Model(net.inputs, net.outputs[0]), or another of them."
        if len(outputs) > 1
        else "End it in pooling or Flatten and a Dense layer."
    )
    raise ExportError(f"The network must have one output (N, K); it has {shown or 'none'}. {advice}")


def _need_finite(model: Any) -> None:
    """Refuse weights that are NaN or infinite, naming their layers: no conversion could agree with them."""
    layers = [layer for layer in model._flatten_layers() if not getattr(layer, "layers", None)]
    broken = [
        f"'{layer.name}'"
        for layer in layers
        if not all(np.isfinite(weight).all() for weight in layer.get_weights() if weight.dtype.kind == "f")
    ]
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise ExportError(
            f"The network's weights are not finite (NaN or infinity) in {len(broken)} of {len(layers)} "
            f"layers: {', '.join(broken[:5])}{more}. Its training diverged or the file is damaged: train it "
            "again with a lower learning rate, or take an earlier epoch's weights."
        )


def _need_float32(model: Any) -> None:
    """Refuse mixed precision: what it rounds to 16 bits is not what a float32 file computes."""
    for layer in model._flatten_layers():
        if not getattr(layer, "layers", None) and layer.compute_dtype in ("float16", "bfloat16", "float64"):
            raise ExportError(
                f"The network must compute in float32; its layer '{layer.name}' computes in "
                f"{layer.compute_dtype}. Build the network again after "
                "keras.config.set_dtype_policy('float32'), give it this one's weights with set_weights, and "
                "save that."
            )


def convert_network(wrapped: Any) -> onnx.ModelProto:
    """Convert a wrapped network with tf2onnx, as it stands: float32 (N, H, W, C) to its own output.

    Raises ExportError naming the operation that has no ONNX form: tf2onnx only logs it.
    """
    from wetread.export import operators

    operators.register()
    with tempfile.TemporaryDirectory() as folder, quiet() as messages, operators.convertible(wrapped):
        path = Path(folder) / "raw.onnx"
        try:
            wrapped(np.zeros((1, *wrapped.inputs[0].shape[1:]), np.float32), training=False)
            wrapped.export(str(path), format="onnx", opset_version=OPSET, verbose=False)
        except OSError as error:
            raise ExportError(
                f"The network cannot be converted in {folder}: {error.strerror or error}. If the disk is "
                "full, make room there, or set TMPDIR to another folder."
            ) from error
        except Exception as error:
            raise ExportError(_explain_conversion(wrapped, messages, error)) from error
        if any(_UNSUPPORTED.search(message) for message in messages):
            raise ExportError(_explain_conversion(wrapped, messages, None))
        converted: onnx.ModelProto = onnx.load(str(path))
    if len(converted.graph.input) != 1:
        extra = ", ".join(entry.name for entry in converted.graph.input[1:])
        raise ExportError(
            f"tf2onnx made inputs of constants of the network: {extra[:400]}. Put a layer in place of the "
            "operation that this names."
        )
    return converted


def _explain_conversion(wrapped: Any, messages: list[str], error: Exception | None) -> str:
    matches = (match for text in messages for match in _UNSUPPORTED.finditer(text))
    found = {match[2]: match[1] for match in matches}
    if not found:
        return (
            f"tf2onnx cannot convert the network: {' '.join(str(error).split())[:400].rstrip('.')}. Replace "
            "the layer that this names."
        )
    parts = []
    for operation, name in found.items():
        advice = _WAYS_ROUND.get(operation, "replace it by layers of convolutions, pooling and Dense")
        parts.append(f"{_find_layer(wrapped, name)} uses {operation} ({advice})")
    return f"ONNX lacks operations of the network: {'; '.join(parts)}."


def _find_layer(wrapped: Any, path: str) -> str:
    """The innermost layer that an operation's path names: tracing puts a number after a layer's own name."""
    kinds = {
        layer.name: type(layer).__name__
        for layer in wrapped._flatten_layers()
        if not getattr(layer, "layers", None)
    }
    for part in reversed(path.split("/")[:-1]):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in kinds:
                return f"layer '{name}' ({kinds[name]})"
    return "call of keras.ops, outside its layers,"


def predict_network(wrapped: Any, images: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float64]:
    """What Keras itself says of uint8 images (N, H, W, C): probabilities, float64 (N, K).

    Scale and offset in float32, as in training; head and temperature in float64.
    """
    batches = (scale_pixels(images[start : start + 32], spec) for start in range(0, len(images), 32))
    with quiet():
        outputs = [np.asarray(wrapped.predict_on_batch(batch), np.float64) for batch in batches]
    return apply_head(np.concatenate(outputs), spec)


def scale_pixels(images: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float32]:
    """uint8 images to the float32 that the network was trained on."""
    scale, offset = np.array(spec.scale, np.float32), np.array(spec.offset, np.float32)
    return images.astype(np.float32) * scale + offset


def apply_head(outputs: NDArray[np.float64], spec: ModelSpec) -> NDArray[np.float64]:
    """A network's outputs (N, 1 or K), by the spec's head and temperature, as probabilities (N, K)."""
    single = outputs.shape[1] == 1
    tiny = np.finfo(np.float64).tiny
    if spec.head == "sigmoid":
        logits = np.log(np.maximum(outputs, tiny)) - np.log(np.maximum(1 - outputs, tiny))
    elif spec.head == "softmax":
        logits = np.log(np.maximum(outputs, tiny))
    else:
        logits = outputs
    logits = logits / spec.temperature
    if single:
        logits = logits * np.array([-0.5, 0.5])
    logits = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def find_head(model: Any, outputs: NDArray[np.floating], labels: int) -> str:
    """Tell what a network ends in: 'logits', 'sigmoid' or 'softmax'.

    `outputs`: what it gives for some pictures, (N, units). Raises ExportError where units and labels do
    not fit, or its end is none of the three.
    """
    units = outputs.shape[1]
    traced = trace_activation(model)
    activation = traced or "linear"
    bounded = bool((outputs >= 0).all() and (outputs <= 1).all())
    sums_to_one = bounded and bool(np.allclose(outputs.sum(axis=1), 1, atol=1e-4))
    if units == 1 and labels == 2:
        if activation == "sigmoid" or (activation == "linear" and not bounded):
            return "sigmoid" if activation == "sigmoid" else "logits"
    elif units == labels:
        told = traced is not None or sums_to_one or not bounded
        if activation in ("softmax", "linear") and told:
            return "softmax" if sums_to_one else "logits"
        if activation == "sigmoid":
            raise ExportError(
                f"The network ends in {units} independent sigmoids (multi-label), which wetread does not "
                "support. End the network in softmax or logits."
            )
    else:
        raise ExportError(
            f"The network has {units} output(s) for {labels} labels. It needs one for each, or 1 for 2 "
            "labels."
        )
    raise ExportError(
        f"The network must end in logits, a sigmoid or a softmax; it has {units} output(s) through "
        f"{activation!r}{' that stay between 0 and 1' if bounded else ''}. Say what they are with --head."
    )
