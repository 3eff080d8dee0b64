"""Every layer of Keras 2 that is rebuilt from a file alone, as tf_keras computes it (test_layers2.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (8, 8, 4)
ACTIVATIONS = (
    "elu",
    "exponential",
    "gelu",
    "hard_sigmoid",
    "linear",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "swish",
    "tanh",
)


def list_cases(layers: Any) -> dict[str, Callable[[Any], Any]]:
    """A network's body for each layer: image to features."""

    def flat(layer: Any) -> Callable[[Any], Any]:
        return lambda x: layer(layers.Reshape((-1, 8))(x))

    def merge(layer: Any) -> Callable[[Any], Any]:
        return lambda x: layer([x, layers.Conv2D(4, 1)(x)])

    simple = {
        "ActivityRegularization": layers.ActivityRegularization(0.1),
        "AlphaDropout": layers.AlphaDropout(0.5),
        "AveragePooling2D": layers.AveragePooling2D(3, strides=2, padding="same"),
        "BatchNormalization": layers.BatchNormalization(axis=2, scale=False),
        "CenterCrop": layers.CenterCrop(5, 6),
        "Conv2D": layers.Conv2D(4, (3, 2), groups=2, dilation_rate=2, padding="same", use_bias=False),
        "Conv2DTranspose": layers.Conv2DTranspose(5, 3, strides=2, padding="same"),
        "Cropping2D": layers.Cropping2D(((1, 2), (0, 3))),
        "Dense": layers.Dense(5, activation="hard_sigmoid"),
        "DepthwiseConv2D": layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2),
        "Dropout": layers.Dropout(0.5),
        "ELU": layers.ELU(0.7),
        "Flatten": layers.Flatten(),
        "GaussianDropout": layers.GaussianDropout(0.5),
        "GaussianNoise": layers.GaussianNoise(0.5),
        "GlobalAveragePooling2D": layers.GlobalAveragePooling2D(keepdims=True),
        "GlobalMaxPooling2D": layers.GlobalMaxPooling2D(),
        "GroupNormalization": layers.GroupNormalization(2),
        "Identity": layers.Identity(),
        "LayerNormalization": layers.LayerNormalization(axis=[1, 3], epsilon=0.1),
        "LeakyReLU": layers.LeakyReLU(0.05),
        "MaxPooling2D": layers.MaxPooling2D((2, 3), padding="same"),
        "Normalization": layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0]),
        "Normalization-adapted": layers.Normalization(),
        "PReLU": layers.PReLU(shared_axes=[1, 2]),
        "Permute": layers.Permute((3, 1, 2)),
        "ReLU": layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2),
        "Rescaling": layers.Rescaling(0.5, offset=-1.0),
        "Reshape": layers.Reshape((4, -1, 2)),
        "Resizing": layers.Resizing(5, 11, interpolation="bilinear"),
        "SeparableConv2D": layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="relu"),
        "Softmax": layers.Softmax(axis=1),
        "SpatialDropout2D": layers.SpatialDropout2D(0.5),
        "SyncBatchNormalization": layers.BatchNormalization(synchronized=True),
        "ThresholdedReLU": layers.ThresholdedReLU(0.3),
        "UnitNormalization": layers.UnitNormalization(axis=-1),
        "UpSampling2D": layers.UpSampling2D((2, 3), interpolation="bilinear"),
        "ZeroPadding2D": layers.ZeroPadding2D(((1, 0), (2, 3))),
        "RandomZoom": layers.RandomZoom(0.5),
        "RandomHeight": layers.RandomHeight(0.5),
    }
    return {
        **simple,
        **{
            name: merge(getattr(layers, name)())
            for name in ("Add", "Average", "Maximum", "Minimum", "Multiply")
        },
        "Subtract": merge(layers.Subtract()),
        "Concatenate": merge(layers.Concatenate(axis=1)),
        "Dot": flat(lambda x: layers.Dot(axes=2, normalize=True)([x, x])),
        "Conv1D": flat(layers.Conv1D(5, 3, padding="causal")),
        "MaxPooling1D": flat(layers.MaxPooling1D(2)),
        "AveragePooling1D": flat(layers.AveragePooling1D(2)),
        "GlobalAveragePooling1D": flat(layers.GlobalAveragePooling1D()),
        "GlobalMaxPooling1D": flat(layers.GlobalMaxPooling1D()),
        "RepeatVector": lambda x: layers.RepeatVector(3)(layers.Flatten()(x)),
        **{f"Activation-{name}": layers.Activation(name) for name in ACTIVATIONS},
        "activation-layer": layers.Conv2D(3, 3, activation=layers.LeakyReLU(0.1)),
        "Attention": flat(lambda x: layers.Attention(use_scale=True)([x, x])),
        "MultiHeadAttention": flat(lambda x: layers.MultiHeadAttention(2, 3)(x, x)),
        "LSTM": flat(layers.LSTM(4)),
        "GRU": flat(layers.GRU(4)),
        "Bidirectional": flat(layers.Bidirectional(layers.LSTM(3, return_sequences=True))),
        "TimeDistributed": flat(layers.TimeDistributed(layers.Dense(3, activation="tanh"))),
    }


def write_cases(keras: Any, folder: Path) -> None:
    """Leave each network's description, its weights by path, an input and tf_keras' answer."""
    from wetread.export.forms.weighted_layers import list_leaves

    random = np.random.default_rng(0)
    image = random.normal(0, 1, (2, *SHAPE)).astype(np.float32)
    arrays, descriptions = {"image": image}, {}
    for name, body in list_cases(keras.layers).items():
        inputs = keras.Input(SHAPE)
        model = keras.Model(inputs, body(inputs))
        for path, layer in list_leaves(model):
            weights = [np.abs(random.normal(0.5, 0.3, w.shape)).astype(w.dtype) for w in layer.get_weights()]
            layer.set_weights(weights)
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()
            for place, array in enumerate(weights):
                arrays[f"{name}|{path}|{place:02d}"] = array
        arrays[f"{name}|answer"] = np.asarray(model(image, training=False))
        descriptions[name] = json.loads(model.to_json())
    np.savez(folder / "layers.npz", **arrays)
    (folder / "layers.json").write_text(json.dumps(descriptions))
