"""The second output: exact in float32, near in int8 and float16, and nothing of the first one's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.export.networks import KERAS_WARNING, LABELS, build_network, draw_lamps, stir
from wetread.errors import ExportError, ModelError
from wetread.export import ExportOptions, Gate, NetworkDescription, export_keras
from wetread.export.description import draw_probes
from wetread.export.layer_by_layer import compare_layers
from wetread.export.network import load_network, scale_pixels, wrap_network
from wetread.runtime.explain import explain_image
from wetread.runtime.model.verify import verify_model
from wetread.runtime.scoring.classifier import Classifier

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)

WITH = ExportOptions(with_activation=True)


def make_body(features):
    from keras import layers

    features = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(features)
    features = layers.ReLU()(layers.BatchNormalization()(features))
    return layers.Conv2D(12, 3, padding="same", activation="relu", name="last")(features)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    """For each number of outputs, a network that ends in global pooling and one dense layer, as a file."""
    folder, files = tmp_path_factory.mktemp("pooled"), {}
    for units in (1, 2, 3):
        model = stir(build_network(make_body, shape=(32, 32, 1), units=units))
        model.layers[-1].set_weights([w * 3 + 0.1 for w in model.layers[-1].get_weights()])
        files[units] = folder / f"{units}.keras"
        model.save(files[units])
    return files


def describe(units: int) -> NetworkDescription:
    labels = LABELS if units < 3 else ("a", "b", "c")
    return NetworkDescription(labels=labels, scale=(1 / 255,), head="logits")


@pytest.mark.parametrize("units", [1, 2, 3])
def test_it_is_the_dense_layer_at_each_place_as_keras_computes_it(pooled, tmp_path, units):
    import keras

    export_keras(
        pooled[units], network_description=describe(units), output=tmp_path / "net.onnx", options=WITH
    )
    classifier = Classifier(tmp_path / "net.onnx", device="cpu")
    images = draw_probes(classifier.spec)
    found = classifier.activate(images)
    with pytest.raises(ModelError, match="must be uint8 of shape"):
        classifier.activate(images[..., 0])
    assert classifier.has_activation and found.shape == (len(images), max(units, 2), 16, 16)
    model = load_network(pooled[units])
    features = keras.Model(model.inputs[0], model.get_layer("last").output)(
        scale_pixels(images, classifier.spec)
    )
    weight, bias = model.layers[-1].get_weights()
    places = np.asarray(features) @ weight + bias
    if units == 1:
        places = places * np.array([-0.5, 0.5])
    np.testing.assert_allclose(found, places.transpose(0, 3, 1, 2), atol=1e-4)
    logits = found.mean(axis=(2, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, classifier.classify(images), atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "int8", "float16"])
def test_probabilities_are_those_of_the_file_without_it(pooled, tmp_path, precision):
    draw_lamps(tmp_path / "data", count=60)
    files = []
    for with_activation in (False, True):
        options = ExportOptions(
            precision=precision,
            calibration=tmp_path / "data",
            gate=Gate(max_flips=0.2, max_auc_change=0.2),
            with_activation=with_activation,
        )
        files.append(tmp_path / f"{with_activation}.onnx")
        export_keras(pooled[1], network_description=describe(1), output=files[-1], options=options)
    plain, more = (Classifier(file, device="cpu") for file in files)
    onnx.checker.check_model(onnx.load(files[1]), full_check=True)
    assert verify_model(files[1], device="cpu").passed
    assert [output.name for output in more.session.get_outputs()] == ["probabilities", "activation"]
    images = draw_probes(plain.spec)
    # Timing may choose another int8 form for the second file.
    if plain.spec.quantization.get("form") == more.spec.quantization.get("form"):
        np.testing.assert_allclose(more.classify(images), plain.classify(images), atol=1e-6)
    logits = more.activate(images).mean(axis=(2, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    tolerance = {"float32": 1e-5, "float16": 0.01, "int8": 0.1}[precision]
    np.testing.assert_allclose(softmax, more.classify(images), atol=tolerance)


def make_activation(features):
    """What Keras calls `activation` itself, with as many channels as there are labels."""
    from keras import layers

    return layers.Activation("relu", name="activation")(layers.Conv2D(3, 3, strides=2)(features))


def test_a_layer_may_have_the_outputs_name(tmp_path):
    file, path = tmp_path / "net.keras", tmp_path / "net.onnx"
    build_network(make_activation, shape=(32, 32, 1)).save(file)
    export_keras(file, network_description=describe(3), output=path, options=WITH)
    classifier = Classifier(path, device="cpu")
    images = draw_probes(classifier.spec)
    logits = classifier.activate(images).mean(axis=(2, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, classifier.classify(images), atol=1e-5)
    wrapped = wrap_network(load_network(file), classifier.spec.pixels.shape)
    layers = compare_layers(wrapped, [classifier], images, classifier.spec)
    assert len(layers) > 1 and not any(layer.departs for layer in layers)


def test_networks_without_global_pooling_are_refused(toy, tmp_path):
    description = NetworkDescription(labels=LABELS, scale=(1 / 255,))
    with pytest.raises(ExportError, match="global average pooling"):
        export_keras(
            toy.run / "model.keras",
            network_description=description,
            output=tmp_path / "net.onnx",
            options=WITH,
        )
    assert not (tmp_path / "net.onnx").exists()


def test_a_class_activation_lies_where_the_network_looks(tmp_path, toy):
    """A network that only asks how bright each place is lights up the bright side."""
    import keras
    from keras import layers

    image = keras.Input((32, 32, 1))
    features = layers.Conv2D(1, 1, name="last")(layers.AveragePooling2D(4)(image))
    model = keras.Model(image, layers.Dense(1)(layers.GlobalAveragePooling2D()(features)))
    model.layers[2].set_weights([np.full((1, 1, 1, 1), 1.0, np.float32), np.full(1, -0.4, np.float32)])
    model.layers[-1].set_weights([np.full((1, 1), 6.0, np.float32), np.zeros(1, np.float32)])
    model.save(tmp_path / "net.keras")
    export_keras(
        tmp_path / "net.keras", network_description=describe(1), output=tmp_path / "net.onnx", options=WITH
    )
    classifier = Classifier(tmp_path / "net.onnx", device="cpu")
    data = next((toy.data / LABELS[1]).iterdir()).read_bytes()
    found = explain_image(classifier, data, label=LABELS[1], method="cam")
    assert (found.method, found.grid, found.map.shape) == ("cam", (8, 8), (32, 32))
    assert found.map[:, 24:].mean() > found.map[:, :8].mean() + 0.3
    other = explain_image(classifier, data, label=LABELS[0], method="cam")
    np.testing.assert_allclose(other.map, -found.map, atol=1e-5)
    told = found.to_dict()
    assert told["grid"] == [8, 8] and "patches" not in told and "looked like this one" in told["unit"]


def test_a_model_without_it_says_how_to_get_it(float32_model, toy):
    classifier = Classifier(float32_model, device="cpu")
    data = next((toy.data / LABELS[1]).iterdir()).read_bytes()
    assert not classifier.has_activation
    with pytest.raises(ModelError, match="--with-activation"):
        explain_image(classifier, data, method="cam")
