from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from wetread.errors import ConfigError
from wetread.train.architectures import (
    ARCHITECTURES,
    build_network,
    check_architecture,
    find_head,
    walk_layers,
)

GRAY = (64, 64, 1)


@pytest.mark.parametrize(
    ("architecture", "parameters"), [("model-1", 13_121), ("model-2", 34_659), ("model-3", 98_017)]
)
def test_the_papers_networks_have_the_papers_parameters(architecture: str, parameters: int) -> None:
    assert build_network(architecture, GRAY, 1).count_params() == parameters


def test_ours_is_smaller_than_the_papers_third() -> None:
    assert build_network("edge", GRAY, 1).count_params() < 98_017


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("shape", "outputs"), [(GRAY, 1), ((64, 64, 3), 4)])
def test_every_network_ends_in_logits(architecture: str, shape: tuple[int, int, int], outputs: int) -> None:
    model = build_network(architecture, shape, outputs)
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, outputs)
    assert find_head(model) == "logits"
    for layer in walk_layers(model):
        assert type(layer).__module__.startswith("keras.")
        assert type(layer).__name__ in (
            *("InputLayer", "Conv2D", "MaxPooling2D", "Flatten", "Dropout", "Dense"),
            *("BatchNormalization", "ReLU", "GlobalAveragePooling2D"),
        )


def test_the_papers_networks_are_built_as_it_says() -> None:
    assert [describe(layer) for layer in build_network("model-1", GRAY, 1).layers] == [
        *("conv 32 3x3 relu", "pool 3", "flatten", "dropout 0.5", "dense 1 linear")
    ]
    assert [describe(layer) for layer in build_network("model-2", GRAY, 1).layers] == [
        *("conv 32 5x5 relu", "pool 3", "conv 32 5x5 relu", "flatten"),
        *("dropout 0.5", "dense 1 linear", "dense 1 linear"),
    ]
    assert [describe(layer) for layer in build_network("model-3", GRAY, 1).layers] == [
        *("conv 32 3x3 relu", "pool 2", "conv 32 3x3 relu", "pool 2", "dropout 0.25"),
        *("conv 64 3x3 relu", "pool 2", "dropout 0.25", "conv 64 3x3 relu", "pool 2", "dropout 0.25"),
        *("flatten", "dropout 0.5", "dense 128 relu", "dense 1 linear"),
    ]


def describe(layer) -> str:
    values = layer.get_config()
    match type(layer).__name__:
        case "Conv2D":
            return (
                f"conv {values['filters']} {'x'.join(map(str, values['kernel_size']))} {values['activation']}"
            )
        case "MaxPooling2D":
            return f"pool {values['pool_size'][0]}"
        case "Dropout":
            return f"dropout {values['rate']}"
        case "Dense":
            return f"dense {values['units']} {values['activation']}"
        case name:
            return name.lower()


def test_images_too_small_for_a_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="16 x 16"):
        build_network("model-3", (16, 16, 1), 1)


@pytest.mark.parametrize("name", ["model-4", "module:", ":function", "Edge"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"edge, model-1.*module:function"):
        check_architecture(name)


OWN = """
import keras
from keras import layers

class Custom(layers.Layer):
    def call(self, x):
        return x

def make(input_shape, outputs, last="linear", middle=None):
    middle = [middle] if middle else []
    return keras.Sequential([keras.Input(input_shape), *middle, layers.GlobalAveragePooling2D(),
                             layers.Dense(outputs, activation=last)])

def plain(input_shape, outputs): return make(input_shape, outputs)
def sigmoid(input_shape, outputs): return make(input_shape, outputs, "sigmoid")
def softmax(input_shape, outputs): return make(input_shape, outputs, "softmax")
def tanh(input_shape, outputs): return make(input_shape, outputs, "tanh")
def custom(input_shape, outputs): return make(input_shape, outputs, middle=Custom())
def hidden(input_shape, outputs): return make(input_shape, outputs, middle=keras.Sequential([Custom()]))
def lambda_(input_shape, outputs): return make(input_shape, outputs, middle=layers.Lambda(lambda x: x))
def fixed(input_shape, outputs): return make(input_shape, 7)
def after(input_shape, outputs, end):
    image = layers.Input(input_shape)
    return keras.Model(image, end(make(input_shape, outputs)(image)))

def ops_sigmoid(input_shape, outputs): return after(input_shape, outputs, keras.ops.sigmoid)
def ops_softmax(input_shape, outputs): return after(input_shape, outputs, keras.ops.softmax)
def called(input_shape, outputs): return after(input_shape, outputs, keras.activations.sigmoid)
def scaled(input_shape, outputs): return after(input_shape, outputs, lambda x: x / 2)
def clipped(input_shape, outputs): return after(input_shape, outputs, lambda x: keras.ops.clip(x, 0, 1))
def reshaped(input_shape, outputs):
    return after(input_shape, outputs, lambda x: layers.Reshape((outputs,))(layers.Softmax()(x)))
def ensemble(input_shape, outputs, last="softmax"):
    image = layers.Input(input_shape)
    members = [make(input_shape, outputs, last)(image) for _ in range(2)]
    return keras.Model(image, layers.Average()(members))
def sigmoids(input_shape, outputs): return ensemble(input_shape, outputs, "sigmoid")
def mixed(input_shape, outputs):
    last = "sigmoid" if outputs == 1 else "softmax"
    end = layers.Activation("linear", dtype="float32")
    image = layers.Input(input_shape)
    return keras.Model(image, end(make(input_shape, outputs, last)(image)))
def halves(input_shape, outputs):
    image = layers.Input(input_shape)
    members = [make(input_shape, outputs, "softmax")(image) for _ in range(2)]
    return keras.Model(image, layers.Add()(members) / 2)
def nothing(input_shape, outputs): return None
def others(shape, classes): return None
def more(input_shape, outputs, width): return None
def positional(input_shape, outputs, /): return None
def any_(**named): return make(**named)
number = 7
class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)
    def call(self, x):
        return self.dense(x[:, 0, 0])
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own in the current folder."""
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_network", raising=False)
    return "own_network"


@pytest.mark.parametrize(
    ("function", "outputs", "head"),
    [
        ("plain", 1, "logits"),
        ("any_", 1, "logits"),
        ("plain", 3, "logits"),
        ("sigmoid", 1, "sigmoid"),
        ("softmax", 3, "softmax"),
        ("ops_sigmoid", 1, "sigmoid"),
        ("ops_softmax", 3, "softmax"),
        ("called", 1, "sigmoid"),
        ("scaled", 1, "logits"),
        ("scaled", 3, "logits"),
        ("reshaped", 3, "softmax"),
        ("ensemble", 3, "softmax"),
        ("sigmoids", 1, "sigmoid"),
        ("halves", 3, "softmax"),
        ("mixed", 1, "sigmoid"),
        ("mixed", 3, "softmax"),
    ],
)
def test_a_network_of_ones_own(own: str, function: str, outputs: int, head: str) -> None:
    model = build_network(f"{own}:{function}", (8, 8, 3), outputs)
    assert find_head(model) == head
    assert model(np.zeros((2, 8, 8, 3), np.float32)).shape == (2, outputs)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("custom", "Custom.*Keras' own layers"),
        ("hidden", "Custom.*Keras' own layers"),
        ("lambda_", "Lambda.*Keras' own layers"),
        ("fixed", r"to \(None, 1\)"),
        ("nothing", "must return a keras.Model"),
        ("absent", "no attribute 'absent'"),
        ("others", r"others\(input_shape=.*which own_network:others\(shape, classes\) does not accept"),
        ("more", r"which own_network:more\(input_shape, outputs, width\) does not accept"),
        ("positional", r"which own_network:positional\(input_shape, outputs, /\) does not accept"),
        ("number", "which 7 does not accept"),
    ],
)
def test_a_network_that_cannot_be_exported_is_refused(own: str, function: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(f"{own}:{function}", (8, 8, 3), 1)


@pytest.mark.parametrize(("function", "advice"), [("tanh", "keras.layers.Dense"), ("softmax", "always 1")])
def test_an_end_that_gives_no_probability_is_refused(own: str, function: str, advice: str) -> None:
    """A softmax over one unit is always 1: such a network never leaves the majority class."""
    with pytest.raises(ConfigError, match=advice):
        find_head(build_network(f"{own}:{function}", (8, 8, 3), 1))


@pytest.mark.parametrize(("function", "outputs"), [("sigmoid", 3), ("sigmoids", 3), ("clipped", 1)])
def test_an_end_that_would_be_read_wrongly_is_refused_before_training(
    own: str, function: str, outputs: int
) -> None:
    with pytest.raises(ConfigError, match="It must end in logits"):
        find_head(build_network(f"{own}:{function}", (8, 8, 3), outputs))


def test_a_module_that_is_not_there(own: str) -> None:
    here = re.escape(os.getcwd())
    with pytest.raises(ConfigError, match=f"no_such_module.*looked for in the current folder, {here}"):
        build_network("no_such_module:make", (8, 8, 3), 1)
    with pytest.raises(ConfigError, match=r"looked for in .*own_network\.py"):
        build_network(f"{own}:no_such_function", (8, 8, 3), 1)


def test_stages_are_as_wide_and_deep_as_their_name_says() -> None:
    model = build_network("stages-12-3-2-0.4", (64, 64, 1), 3)
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert [layer.filters for layer in convolutions] == [12, 12, 24, 24, 48, 48]
    assert [layer.strides for layer in convolutions] == [(2, 2), (1, 1)] * 3
    assert [layer.rate for layer in model.layers if type(layer).__name__ == "Dropout"] == [0.4]
    assert model.output_shape == (None, 3)
    for name in ("stages-0-3-2-0.4", "stages-12-3-2", "stages-12-3-2-1.5", "stages-12-9-2-0.4"):
        with pytest.raises(ConfigError, match="There is no architecture"):
            check_architecture(name)
