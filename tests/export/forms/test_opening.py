"""Files that tf_keras and Keras 3 wrote, opened and asked: the answers are those of who wrote them."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from tests.export.forms.conftest import WEIGHTS, ask, read_pixels
from tests.export.networks import KERAS_WARNING
from wetread.errors import ExportError, MissingExtraError
from wetread.export.forms import keras2
from wetread.export.forms.network_files import NetworkSource
from wetread.export.forms.opening import open_network
from wetread.export.network import quiet

pytestmark = [
    pytest.mark.filterwarnings(KERAS_WARNING),
    pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match:UserWarning"),
]


WITHOUT = ("named-otherwise.keras", "no-extension", "nested.h5", "legacy.json", "teachable")


def open_from(zoo, name, **belonging):
    if name in WEIGHTS:
        belonging["weights"] = zoo / WEIGHTS[name]
    return open_network(NetworkSource(path=zoo / name, **belonging))


def differ(zoo, name, opened) -> float:
    """How far the network is from what tf_keras said, and that it said something."""
    answers = np.load(zoo / f"{name}.npy")
    assert answers.std() > 0.005
    with quiet():
        found = ask(opened.model, read_pixels(zoo, opened.model.inputs[0].shape[-1]))
    return float(np.abs(found - answers).max())


@pytest.mark.usefixtures("without_tf_keras")
@pytest.mark.parametrize(
    "name", ["named-otherwise.keras", "no-extension", "nested.h5", "legacy.json", "teachable"]
)
def test_hdf5_of_keras_2_without_tf_keras(zoo, name):
    opened = open_from(zoo, name)
    assert differ(zoo, name, opened) <= 1e-5
    assert not opened.is_graph
    assert "not compared" in opened.notes[0]


def test_a_file_that_only_tf_keras_reads(zoo, monkeypatch):
    opened = open_from(zoo, "older.keras")
    assert differ(zoo, "older.keras", opened) <= 1e-5
    assert "Read with tf_keras" in opened.notes[0] and not opened.is_graph
    monkeypatch.setattr(keras2, "has_tf_keras", lambda: False)
    with pytest.raises(MissingExtraError, match=r"wetread\[keras2\]"):
        open_from(zoo, "older.keras")


@pytest.mark.usefixtures("without_tf_keras")
def test_a_saved_model_with_a_layer_of_its_authors_is_a_graph(zoo):
    opened = open_from(zoo, "custom-saved")
    assert differ(zoo, "custom-saved", opened) <= 1e-5
    assert opened.is_graph and "TensorFlow's graph" in opened.notes[0]


@pytest.mark.usefixtures("without_tf_keras")
def test_one_of_several_outputs(zoo):
    for name in ("one", "0"):
        opened = open_from(zoo, "two-outputs.h5", output_name=name)
        assert differ(zoo, "two-outputs.h5", opened) <= 1e-5
    assert differ(zoo, "two-outputs.h5", open_from(zoo, "two-outputs.h5", output_name="other")) > 0.01
    with pytest.raises(ExportError, match=r"no output 'third', but 'one' \(None, 2\), 'other' \(None, 2\)"):
        open_from(zoo, "two-outputs.h5", output_name="third")


def test_a_lambda_is_refused_by_name(zoo):
    with pytest.raises(ExportError, match=r"Lambda layer 'squeeze_light'.*never run.*--custom"):
        open_from(zoo, "lambda.h5")


def test_what_belongs_to_a_network_must_fit_it(zoo):
    with pytest.raises(
        ExportError, match=r"an architecture without weights.*Beside it stands .*legacy\.weights2\.h5"
    ):
        open_network(zoo / "legacy.json")
    with pytest.raises(ExportError, match="does not exist"):
        open_network(NetworkSource(path=zoo / "legacy.json", weights=zoo / "none.h5"))
    with pytest.raises(ExportError, match="weights alone.*--weights"):
        open_network(zoo / "legacy.weights2.h5")
    with pytest.raises(ExportError, match="--weights belongs to an architecture"):
        open_network(NetworkSource(path=zoo / "nested.h5", weights=zoo / "legacy.weights2.h5"))


@pytest.mark.usefixtures("without_tf_keras")
def test_weights_under_other_names_are_not_guessed(zoo, tmp_path):
    shutil.copyfile(zoo / "nested.h5", tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        group = file["model_weights"]["block"]
        group.attrs["weight_names"] = [
            f"a{i}/kernel:0".encode() for i in range(len(group.attrs["weight_names"]))
        ]
    with pytest.raises(MissingExtraError):
        open_network(tmp_path / "net.h5")


def test_a_network_of_keras_1_is_said_to_be_one(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["model_config"] = '{"class_name": "Sequential", "config": []}'
        file.attrs["keras_version"] = "1.2.2"
        file.create_group("model_weights")
    with pytest.raises(ExportError, match=r"written by Keras 1\.2\.2.*2\.0 to 2\.3"):
        open_network(tmp_path / "net.h5")


@pytest.mark.usefixtures("without_tf_keras")
def test_a_rebuilt_network_that_answers_otherwise_is_found(zoo):
    model = open_from(zoo, "teachable").model
    random = np.random.default_rng(0)
    probes = random.uniform(0, 1, (4, 32, 32, 3)).astype(np.float32)
    with quiet():
        answers = [np.asarray(model(probes, training=False))]
    assert keras2._compare(model, probes, answers) == 0
    with pytest.raises(keras2.RebuildError, match="off by 0.001"):
        keras2._compare(model, probes, [answers[0] + np.float32(0.001)])


def build_keras3(layer=None):
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 3))
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, activation="hard_sigmoid")(image))
    x = layer(x) if layer is not None else x
    return keras.Model(image, layers.Dense(2, activation="softmax")(layers.Flatten()(x)))


SAVE3 = {
    "net.keras": lambda model, path: model.save(path),
    "net.h5": lambda model, path: model.save(path),
    "h5-as.keras": lambda model, path: _rename(model, path, "passing.h5"),
    "keras-as.h5": lambda model, path: _rename(model, path, "passing.keras"),
    "folder": lambda model, path: _unpack(model, path),
    "new.json": lambda model, path: _split(model, path, "w.weights.h5"),
    "saved": lambda model, path: model.export(path, verbose=False),
}


def _rename(model, path, name):
    model.save(path.with_name(name))
    path.with_name(name).rename(path)


def _unpack(model, path):
    model.save(path.with_name("passing.keras"))
    shutil.unpack_archive(path.with_name("passing.keras"), path, "zip")


def _split(model, path, name):
    path.write_text(model.to_json())
    model.save_weights(path.with_name(name))


@pytest.mark.parametrize(
    "name", [n if n != "saved" else pytest.param(n, marks=pytest.mark.long) for n in SAVE3]
)
def test_keras_3_in_every_form(name, tmp_path):
    with quiet():
        model = build_keras3()
        SAVE3[name](model, tmp_path / name)
    weights = next(tmp_path.glob("w.*"), None)
    opened = open_network(NetworkSource(path=tmp_path / name, weights=weights))
    images = np.random.default_rng(0).uniform(0, 1, (4, 16, 16, 3)).astype(np.float32)
    with quiet():
        difference = np.abs(np.asarray(model(images)) - np.asarray(opened.model(images))).max()
    assert difference <= 1e-6
    assert opened.is_graph == (name == "saved")


def test_keras_3_with_the_owners_own_code(tmp_path):
    import keras

    own = tmp_path / "own.py"
    own.write_text("def brighten(x):\n    return 2 * x + 1\n")
    with quiet():
        model = build_keras3(keras.layers.Lambda(lambda x: 2 * x + 1, name="brighten"))
        for name in ("net.keras", "net.h5"):
            model.save(tmp_path / name)
    images = np.random.default_rng(0).uniform(0, 1, (4, 16, 16, 3)).astype(np.float32)
    for name in ("net.keras", "net.h5"):
        with pytest.raises(ExportError, match="the Lambda layer 'brighten'.*--custom"):
            open_network(tmp_path / name)
        opened = open_network(NetworkSource(path=tmp_path / name, custom=str(own)))
        assert "was run" in opened.notes[0]
        with quiet():
            assert np.abs(np.asarray(model(images)) - np.asarray(opened.model(images))).max() <= 1e-6
