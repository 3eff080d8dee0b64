from __future__ import annotations

import hashlib
import importlib
import socket
import warnings
from pathlib import Path

import pytest

from tests.train.drawn import configure_xray, draw_folder
from tests.train.keras2_weights import MODULES
from wetread.environment import find_keras_home, keep_home_clean
from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train.backbones import BACKBONES
from wetread.train.fit import train
from wetread.train.run import INPUTS, METRICS, MODEL
from wetread.train.weights_file import check_weights, digest_weights, find_weights

PUBLISHED = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


def test_imagenet_is_what_lies_in_keras_own_cache(cache: Path) -> None:
    config = configure_xray(backbone="MobileNetV2-0.35", weights="imagenet", size=96)
    with pytest.raises(ConfigError) as caught:
        find_weights(config)
    told = str(caught.value)
    assert f"there is no {cache / PUBLISHED}, and wetread downloads nothing" in told
    call = "keras.applications.MobileNetV2(include_top=False, input_shape=(96, 96, 3), alpha=0.35)"
    assert f"{call} downloads {PUBLISHED} to ~/.keras/models" in told
    assert "--weights FILE" in told
    (cache / PUBLISHED).write_bytes(b"weights")
    assert find_weights(config) == cache / PUBLISHED
    assert digest_weights(cache / PUBLISHED) == hashlib.sha256(b"weights").hexdigest()


def test_the_network_is_never_opened(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    data = draw_folder(tmp_path / "data", counts={"bar": 4, "disc": 4})
    config = configure_xray(
        data=str(data), output=str(tmp_path / "run"), backbone="ResNet50", weights="imagenet"
    )
    with pytest.raises(
        ConfigError, match="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5, and wetread"
    ):
        train(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize("name", BACKBONES)
def test_the_published_names_are_those_that_keras_asks_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras builds the network and then asks for its file: the name is caught there."""
    chosen, keras = BACKBONES[name], import_keras()
    module = importlib.import_module(f"keras.src.applications.{MODULES[chosen.application]}")
    asked = []

    class AskedError(Exception):
        pass

    def catch(file: str, *_, **__):
        asked.append(file)
        raise AskedError

    monkeypatch.setattr(module.file_utils, "get_file", catch)
    options = {} if chosen.alpha is None else {"alpha": chosen.alpha}
    for size in (96, 224):
        with warnings.catch_warnings(), pytest.raises(AskedError):
            warnings.simplefilter("ignore")  # of sizes without weights of their own
            getattr(keras.applications, chosen.application)(
                include_top=False, weights="imagenet", input_shape=(size, size, 3), **options
            )
        assert asked[-1] == chosen.name_published(size)


def test_a_run_stands_for_its_network_once_it_is_finished(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(b"")
    config = configure_xray(weights=str(tmp_path))
    with pytest.raises(ConfigError, match="is not finished. Continue it with --resume first"):
        find_weights(config)
    (tmp_path / METRICS).write_bytes(b"")
    assert find_weights(config) == tmp_path / MODEL


def test_a_run_that_has_only_begun_is_no_saved_model(tmp_path: Path) -> None:
    """Its network is there at its end only."""
    (tmp_path / INPUTS).write_bytes(b"{}")
    with pytest.raises(ConfigError, match="is not finished. Continue it with --resume first"):
        find_weights(configure_xray(weights=str(tmp_path)))


def test_weights_that_are_not_there_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weights must be imagenet, none, a file or a run"):
        check_weights(configure_xray(backbone="MobileNetV2", weights=str(tmp_path / "none.h5")))
    with pytest.raises(ConfigError, match="wetread convert FOLDER --output network.keras"):
        check_weights(configure_xray(backbone="MobileNetV2", weights=str(tmp_path)))
    with pytest.raises(
        ConfigError, match="'gs://bucket/run' are in a bucket, and weights are read from this"
    ):
        check_weights(configure_xray(weights="gs://bucket/run"))
    with pytest.raises(ConfigError, match="'imagenet' need a backbone: name one with --backbone"):
        check_weights(configure_xray(weights="imagenet"))
    check_weights(configure_xray())


def test_a_temporary_home_of_keras_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    keep_home_clean()
    assert find_keras_home() == str(tmp_path / ".keras")
    monkeypatch.setenv("KERAS_HOME", "/somewhere")
    assert find_keras_home() == "/somewhere"
