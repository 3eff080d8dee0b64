from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.train import networks
from tests.train.drawn import configure_xray
from tests.train.keras2_weights import MODULES, write_weights
from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train.architectures import build_network
from wetread.train.backbones import build_application, build_backbone
from wetread.train.config import TrainConfig
from wetread.train.pretrained import list_leaves, load_weights, read_layers

SMALL = "MobileNet-0.25"
# Keras 3.15 asks TensorFlow's variables for an array in a way that NumPy 2 is leaving.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def configure(weights: Path, **values) -> TrainConfig:
    return configure_xray(
        **{"backbone": SMALL, "size": 32, "color": "rgb", "weights": str(weights), **values}
    )


def load(config: TrainConfig):
    """A network of a configuration, with the weights of its file."""
    shape = config.recipe().shape
    keras = import_keras()
    keras.utils.set_random_seed(9)
    if config.backbone:
        model = build_backbone(config.backbone, shape, 1)
    else:
        model = build_network(config.architecture, shape, 1)
    load_weights(model, config)
    return model


def compute_features(model, images: np.ndarray) -> np.ndarray:
    """What comes out of a network's body, from uint8 images."""
    keras = import_keras()
    body = keras.Model(model.input, model.layers[-1].input)
    return np.asarray(body(images.astype(np.float32) * np.float32(1 / 255), training=False))


def is_near(ours: np.ndarray, wanted: np.ndarray) -> bool:
    return float(np.abs(ours - wanted).max()) < 1e-4 * max(1.0, float(np.abs(wanted).max()))


@pytest.fixture(scope="module")
def keras2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras2")
    write_weights(folder, "MobileNet:0.25", size=32)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("form", ["notop", "top"])
def test_files_of_keras_2_give_what_tf_keras_computes(form: str, keras2: Path) -> None:
    """The judge is tf_keras: its own preprocessing, and its features of the same images."""
    model = load(configure(keras2 / f"MobileNet_{form}.h5"))
    wanted = np.load(keras2 / "MobileNet.npy")
    assert is_near(compute_features(model, np.load(keras2 / "images.npy")), wanted)
    assert wanted.std() > 0.01
    random = build_backbone(SMALL, (32, 32, 3), 1)
    assert not is_near(compute_features(random, np.load(keras2 / "images.npy")), wanted)


@pytest.mark.long
@pytest.mark.parametrize("name", MODULES)
def test_every_backbone_gives_what_tf_keras_computes(name: str, tmp_path: Path) -> None:
    write_weights(tmp_path, name, size=96)
    images, wanted = np.load(tmp_path / "images.npy"), np.load(tmp_path / f"{name}.npy")
    for file in sorted(tmp_path.glob("*.h5")):
        model = load(configure(file, backbone=name, size=96))
        assert is_near(compute_features(model, images), wanted), file.name
    assert wanted.std() > 1e-4


@pytest.mark.long
def test_the_published_mistake_of_efficientnet_is_corrected_as_in_keras(tmp_path: Path) -> None:
    """Its published files hold deviations where variances belong."""
    write_weights(tmp_path, "EfficientNetB0", size=64)
    with h5py.File(tmp_path / "EfficientNetB0_notop.h5", "r+") as file:
        file["normalization"]["normalization/variance:0"][:] = (0.229, 0.224, 0.225)
    model = load(configure(tmp_path / "EfficientNetB0_notop.h5", backbone="EfficientNetB0", size=64))
    found = compute_features(model, np.load(tmp_path / "images.npy"))
    assert is_near(found, np.load(tmp_path / "EfficientNetB0.npy"))


@pytest.fixture(scope="module")
def application():
    import_keras().utils.set_random_seed(1)
    return build_application(SMALL, input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def legacy(application, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In Keras 2's layout, as Keras 3 still writes it of a whole network."""
    path = tmp_path_factory.mktemp("legacy") / "whole.h5"
    application.save(path)
    return path


def assert_taken(path: Path, wanted: list[np.ndarray]) -> None:
    found = load(configure(path, color="gray")).get_weights()[:-2]  # without the dense layer's
    assert len(found) == len(wanted)
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_weights_and_networks_are_read_from_their_files(application, legacy: Path, tmp_path: Path) -> None:
    application.save_weights(tmp_path / "body.weights.h5")
    application.save(tmp_path / "body.keras")
    for path in (legacy, tmp_path / "body.weights.h5", tmp_path / "body.keras"):
        assert_taken(path, application.get_weights())


@pytest.mark.long
def test_a_top_and_a_network_around_the_body_are_left_out(application, tmp_path: Path) -> None:
    keras = import_keras()
    wanted = application.get_weights()
    image = keras.Input((32, 32, 3))
    nested = keras.Model(image, keras.layers.Dense(5)(application(image)))
    nested.save(tmp_path / "nested.keras")
    nested.save(tmp_path / "nested.h5")
    for labels in (5, 1000):
        top = build_application(SMALL, top=True, classes=labels)
        top.set_weights([*wanted, *top.get_weights()[len(wanted) :]])
        top.save(tmp_path / f"top-{labels}.h5")
        if labels == 1000:
            top.save_weights(tmp_path / "top.weights.h5")
    for path in sorted(tmp_path.iterdir()):
        assert_taken(path, wanted)


def test_a_network_of_wetreads_own_takes_the_weights_of_another(tmp_path: Path) -> None:
    other = build_network("edge", (32, 32, 1), 4)
    other.save(tmp_path / "other.keras")
    config = configure(tmp_path / "other.keras", backbone=None, architecture="edge", color="gray")
    found, wanted = load(config).get_weights(), other.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(found[:-2], wanted[:-2], strict=True))
    assert found[-2].shape == (64, 1)
    with pytest.raises(ConfigError, match="does not hold the weights of photo.*of shapes 3 x 3 x 1 x 32"):
        load(replace(config, architecture="photo"))
    build_network("model-3", (64, 64, 1), 1).save(tmp_path / "flat.keras")
    flat = configure(tmp_path / "flat.keras", backbone=None, architecture="model-3", color="gray", size=80)
    with pytest.raises(ConfigError, match="sees another number of pixels: give the --size of its images"):
        load(flat)
    with pytest.raises(ConfigError, match="Its images were in gray: give --color"):
        load(replace(config, color="rgb"))
    with pytest.raises(ConfigError, match=r"of shapes 3 x 3 x 16 x 16, meets 'conv2d"):
        load(replace(config, architecture="stages-16-4-2-0.3"))


def test_weights_of_another_network_are_refused_by_their_layer(legacy: Path, tmp_path: Path) -> None:
    wider = r"MobileNet-0.5: in its place the layer 'conv1', of .*Name the network that the file is of"
    with pytest.raises(ConfigError, match=wider):
        load(configure(legacy, backbone="MobileNet-0.5"))
    with h5py.File(legacy, "r") as whole, h5py.File(tmp_path / "few.h5", "w") as few:
        file = whole["model_weights"]
        names = list(file.attrs["layer_names"])[:9]
        few.attrs["layer_names"] = names
        for name in names:
            file.copy(file[name], few, name=name)
    with pytest.raises(ConfigError, match=r"it has 6 layers with weights, and 54 are needed"):
        load(configure(tmp_path / "few.h5"))


def test_files_that_are_no_weights_are_refused_by_what_they_are(
    application, legacy: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.h5"
    cut.write_bytes(legacy.read_bytes()[:200_000])
    (tmp_path / "text.h5").write_text("weights")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.arange(3)
    for name, words in (
        ("cut.h5", "cannot be read: .*may be damaged"),
        ("text.h5", "no file of weights: neither HDF5"),
        ("other.h5", "holds no weights of Keras"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_layers(tmp_path / name, configure(tmp_path / name))
    application.save_weights(tmp_path / "body.weights.h5")
    (tmp_path / "body.weights.h5").rename(tmp_path / "body.h5")
    with pytest.raises(ConfigError, match=r"rename it, so that it ends in \.weights\.h5"):
        load(configure(tmp_path / "body.h5"))
    (tmp_path / "body.h5").rename(tmp_path / "body.weights.h5")
    application.save(tmp_path / "body.keras")
    (tmp_path / "body.keras").rename(tmp_path / "body.zip")
    with pytest.raises(ConfigError, match=r"rename it, so that it ends in \.keras"):
        read_layers(tmp_path / "body.zip", configure(tmp_path / "body.zip"))
    with pytest.raises(ConfigError, match="holds weights without a network"):
        read_layers(tmp_path / "body.weights.h5", configure(tmp_path / "x", backbone=None))
    with pytest.raises(ConfigError, match="does not hold the weights of MobileNet-0.5, with or without"):
        load(configure(tmp_path / "body.weights.h5", backbone="MobileNet-0.5"))


def test_weights_that_are_no_numbers_are_refused_by_their_layer(legacy: Path, tmp_path: Path) -> None:
    path = tmp_path / "nan.h5"
    path.write_bytes(legacy.read_bytes())
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]["conv_pw_3"]
        group[next(name for name in group.attrs["weight_names"])][0, 0, 0, 0] = np.nan
    with pytest.raises(ConfigError, match="not finite, of the layer 'conv_pw_3'"):
        load(configure(path))


def test_damaged_files_are_refused_wherever_the_damage_is(tmp_path: Path) -> None:
    own = {"backbone": None, "architecture": "tests.train.networks:tiny", "size": 20, "color": "gray"}
    networks.tiny((20, 20, 1), 1).save(tmp_path / "whole.keras")
    data = (tmp_path / "whole.keras").read_bytes()
    for name, place in (("config", data.index(b"config.json") + 99), ("weights", len(data) // 2)):
        path = tmp_path / f"{name}.keras"
        path.write_bytes(data[:place] + bytes(16) + data[place + 16 :])
        with pytest.raises(ConfigError, match="cannot be read: Bad CRC-32 .*may be damaged"):
            read_layers(path, configure(path, **own))
    with h5py.File(tmp_path / "layers.h5", "w") as file:
        file["layers"] = np.arange(3)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_layers(tmp_path / "layers.h5", configure(tmp_path / "layers.h5", **own))


def test_a_network_that_needs_code_says_so(tmp_path: Path) -> None:
    """Its code is not run; as .h5 its weights are read."""
    keras = import_keras()
    tiny = [
        keras.Input((20, 20, 1)),
        keras.layers.Lambda(lambda x: x * 2),
        *networks.tiny((20, 20, 1), 1).layers,
    ]
    model = keras.Sequential(tiny)
    model.save(tmp_path / "code.keras")
    model.save(tmp_path / "code.h5")
    config = configure(
        tmp_path / "code.keras",
        backbone=None,
        architecture="tests.train.networks:tiny",
        size=20,
        color="gray",
    )
    with pytest.raises(
        ConfigError, match=r"someone's own code, which is not run: .*`Lambda`.*save the network as"
    ):
        load(config)
    found = load(replace(config, weights=str(tmp_path / "code.h5"))).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(found[:-2], model.get_weights()[:-2], strict=True))


def test_a_normalization_layer_belongs_to_efficientnet_or_to_a_network_of_ones_own(
    application, tmp_path: Path
) -> None:
    """Around another application it is of pixels that wetread does not know, 0 to 255 perhaps."""
    keras = import_keras()
    image = keras.Input((32, 32, 3))
    scaled = keras.layers.Normalization(mean=None)
    scaled.adapt(np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)).astype(np.float32))
    keras.Model(image, application(scaled(image))).save(tmp_path / "around.keras")
    model = load(configure(tmp_path / "around.keras"))
    (rescaling,) = (layer for layer in list_leaves(model) if type(layer).__name__ == "Rescaling")
    assert (rescaling.scale, rescaling.offset) == (2.0, -1.0)
    own = networks.normalized((20, 20, 1), 4)
    own.save(tmp_path / "own.keras")
    config = configure(
        tmp_path / "own.keras",
        backbone=None,
        architecture="tests.train.networks:normalized",
        size=20,
        color="gray",
    )
    found = load(config).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(found[:-2], own.get_weights()[:-2], strict=True))
    with pytest.raises(ConfigError, match="does not hold the weights of tests.train.networks:tiny"):
        load(replace(config, architecture="tests.train.networks:tiny"))


def test_the_layers_of_a_network_inside_a_network_are_listed_in_its_place() -> None:
    keras = import_keras()
    inner = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3, name="a")])
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Flatten(name="b")(inner(image)))
    assert [layer.name for layer in list_leaves(model)] == ["a", "b"]
