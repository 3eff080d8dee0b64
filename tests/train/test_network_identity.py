from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests.train.networks import plain, tanh, tiny
from wetread.train.architectures import ARCHITECTURES, build_network
from wetread.train.network_identity import digest_network

SHAPE = (20, 20, 1)


def branch(input_shape: tuple[int, int, int], outputs: int, *, swap: bool = False, rate: float = 0.2):
    """Two branches, operations, a network inside, a wrapper: every place where a layer's name stands."""
    image = keras.Input(input_shape)
    first, second = (layers.Conv2D(4, 3, activation=name)(image) for name in ("softmax", "relu"))
    joined = layers.Concatenate()([second, first] if swap else [first, second])
    inner = keras.Sequential([layers.Conv2D(3, 3), layers.ReLU(), layers.Dropout(rate)])
    each = layers.TimeDistributed(layers.Dense(3, name="mine"))(keras.ops.relu(inner(joined)) * 2)
    return keras.Model(image, layers.Dense(outputs)(layers.Flatten()(each)))


def wrapped(input_shape: tuple[int, int, int], outputs: int):
    """A wrapper that names its children, and a layer that draws a seed."""
    image = keras.Input(input_shape)
    rows = layers.Reshape((-1, input_shape[1]))(layers.RandomCrop(*input_shape[:2])(image))
    return keras.Model(image, layers.Dense(outputs)(layers.Bidirectional(layers.GRU(2))(rows)))


@pytest.mark.parametrize("build", [tiny, plain, tanh, branch, wrapped])
def test_what_was_built_before_changes_nothing(build) -> None:
    """Neither do the weights, nor how the network is compiled."""
    first = build(SHAPE, 1)
    before = digest_network(first)
    layers.Softmax()(layers.ReLU()(np.zeros((1, 2), np.float32)))  # what an activation is called, too
    second = build(SHAPE, 1)
    assert [layer.name for layer in first.layers] != [layer.name for layer in second.layers]
    assert digest_network(second) == before
    second.compile("adam", "mse")
    second.set_weights([weight + 1 for weight in second.get_weights()])
    assert digest_network(second) == before


def test_networks_of_equal_shapes_are_told_apart() -> None:
    built = [tiny(SHAPE, 1), tanh(SHAPE, 1)]
    built += [branch(SHAPE, 1), branch(SHAPE, 1, swap=True), branch(SHAPE, 1, rate=0.3)]
    shapes = [[weight.shape for weight in model.get_weights()] for model in built]
    assert shapes[0] == shapes[1]
    assert shapes[2] == shapes[3] == shapes[4]
    assert len({digest_network(model) for model in built}) == 5


def test_every_named_network_has_a_digest_of_its_own() -> None:
    names = [*ARCHITECTURES, "stages-16-3-2-0.3", "stages-16-3-2-0.2"]
    assert len({digest_network(build_network(name, (64, 64, 1), 1)) for name in names}) == len(names)
