"""Layers of Keras 2, rebuilt: each answers as tf_keras' own does, or is refused."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from tests.export.forms.layer_cases import ACTIVATIONS, list_cases
from tests.export.networks import KERAS_WARNING
from wetread.export.forms import layers2
from wetread.export.forms.keras2_rebuild import list_entries, rebuild_network
from wetread.export.forms.layers2 import RebuildError, make_steps
from wetread.export.forms.operations2 import make_function
from wetread.export.forms.weighted_layers import list_leaves, set_weights
from wetread.export.network import quiet

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)


class _AnyLayer:
    """Stands for a layer while the cases are only named."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


CASES = list(list_cases(_AnyLayer()))


@pytest.fixture(scope="module")
def written(zoo):
    with np.load(zoo / "layers.npz") as file:
        return json.loads((zoo / "layers.json").read_text()), dict(file)


@pytest.mark.parametrize("name", CASES)
def test_a_rebuilt_layer_answers_as_tf_keras_does(written, name):
    descriptions, arrays = written
    weights: dict[str, list[np.ndarray]] = {}
    for key in sorted(key for key in arrays if key.startswith(f"{name}|") and key.count("|") == 2):
        weights.setdefault(key.split("|")[1], []).append(arrays[key])
    with quiet():
        model = rebuild_network(descriptions[name])
        set_weights(model, weights)
        found = np.asarray(model(arrays["image"], training=False))
    expected = arrays[f"{name}|answer"]
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_every_layer_that_is_said_to_be_the_same_is_compared(written):
    compared = {entry["class_name"] for one in written[0].values() for entry in list_entries(one)}
    assert layers2.SAME - compared == set()
    assert set(ACTIVATIONS) == layers2._ACTIVATIONS


def test_an_option_that_keras_3_lacks_is_not_dropped():
    with pytest.raises(RebuildError, match="groups=2"):
        make_steps("DepthwiseConv2D", {"name": "a", "kernel_size": [3, 3], "groups": 2})
    with pytest.raises(RebuildError, match="novelty='on' of layer 'a'"):
        make_steps("Dense", {"name": "a", "units": 2, "novelty": "on"})
    with pytest.raises(RebuildError, match="the activation 'mine'"):
        make_steps("Dense", {"name": "a", "units": 2, "activation": "mine"})
    with pytest.raises(RebuildError, match=r"'a' \(LocallyConnected2D\)"):
        make_steps("LocallyConnected2D", {"name": "a"})


def test_weights_must_fit_all_of_them(written):
    model = rebuild_network(written[0]["Dense"])
    (path,) = [path for path, layer in list_leaves(model) if layer.weights]
    kernel, bias = np.zeros((4, 5), np.float32), np.zeros(5, np.float32)
    for wrong in ({path: [kernel]}, {path: [bias, kernel]}, {path: [kernel, bias], "more": [bias]}, {}):
        with pytest.raises(RebuildError):
            set_weights(model, wrong)
    set_weights(model, {path: [kernel, bias]})


def test_a_slice_as_tensorflow_2_3_kept_it():
    masks = {"begin_mask": {"i": "2"}, "end_mask": {"i": "2"}, "ellipsis_mask": {"i": "1"}}
    config = {
        "name": "slice",
        "node_def": {"op": "StridedSlice", "attr": masks},
        "constants": {"1": [0, 0], "2": [0, 0], "3": [1, -1]},
    }
    values = np.arange(24).reshape(2, 2, 2, 3)
    assert (make_function("TensorFlowOpLayer", config)(values) == values[..., ::-1]).all()
    shrunk = copy.deepcopy(config)
    shrunk["node_def"]["attr"] = {
        "shrink_axis_mask": {"i": "2"},
        "begin_mask": {"i": "1"},
        "end_mask": {"i": "1"},
    }
    assert (make_function("TensorFlowOpLayer", shrunk)(values) == values[:, 0]).all()


def test_calls_that_are_not_known_are_refused():
    with pytest.raises(RebuildError, match=r"a call of tf\.nn\.conv2d \(layer 'c'\)"):
        make_function("TFOpLambda", {"name": "c", "function": "nn.conv2d"})
    with pytest.raises(RebuildError, match="a call of tf.nn.softmax with mode"):
        make_function("TFOpLambda", {"name": "c", "function": "nn.softmax"})(np.zeros((1, 2)), mode="x")
    with pytest.raises(RebuildError, match="the operation Erf"):
        make_function("TensorFlowOpLayer", {"name": "c", "node_def": {"op": "Erf"}})
