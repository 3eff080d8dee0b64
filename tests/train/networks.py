"""Small networks for tests, named as a user would: --architecture tests.train.networks:tiny."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers


def tiny(input_shape: tuple[int, int, int], outputs: int) -> keras.Model:
    """A batch norm, a dropout, three convolutions: everything that a resumed run has to bring back."""
    return _build(input_shape, outputs, layers.ReLU())


def tanh(input_shape: tuple[int, int, int], outputs: int) -> keras.Model:
    """Like `tiny` in every shape, with another function in its middle."""
    return _build(input_shape, outputs, layers.Activation("tanh"))


def _build(input_shape: tuple[int, int, int], outputs: int, activation: layers.Layer) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(12, 3, strides=2, use_bias=False),
            layers.BatchNormalization(momentum=0.8),
            activation,
            layers.Conv2D(24, 3, strides=2, activation="relu"),
            layers.Dropout(0.1),
            layers.Conv2D(24, 3, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(outputs),
        ]
    )


def diverging(input_shape: tuple[int, int, int], outputs: int) -> keras.Model:
    """A network whose weights are no numbers from the first step on, whether or not the loss shows it."""
    model = tiny(input_shape, outputs)
    model.layers[0].set_weights([weight * float("nan") for weight in model.layers[0].get_weights()])
    return model


def plain(input_shape: tuple[int, int, int], outputs: int) -> keras.Model:
    """A network that answers for each image alone, in training too: no batch norm, no dropout."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(12, 3, strides=2, activation="relu"),
            layers.Conv2D(24, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(outputs),
        ]
    )


def softmax(input_shape: tuple[int, int, int], outputs: int) -> keras.Model:
    """`plain`, ending in probabilities."""
    return keras.Sequential([*plain(input_shape, outputs).layers, layers.Softmax()])


def normalized(input_shape: tuple[int, int, int], outputs: int) -> keras.Model:
    """`tiny` behind a Normalization layer that has seen images."""
    normalization = layers.Normalization()
    normalization.adapt(np.linspace(0, 1, 2 * np.prod(input_shape)).reshape(2, *input_shape))
    return keras.Sequential([keras.Input(input_shape), normalization, *tiny(input_shape, outputs).layers])
