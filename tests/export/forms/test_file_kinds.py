"""A file is told by its content, and what is no network is called what it is."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wetread.errors import ExportError
from wetread.export.forms.architecture import read_architecture
from wetread.export.forms.file_kinds import Kind, find_network


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), data)
    return file.getvalue()


def hdf5(path: Path, *, userblock: int = 0, **attributes: str) -> Path:
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.attrs.update(attributes)
        file.create_group("model_weights")
    return path


STRANGERS = {
    "empty": (b"", "is empty"),
    "pointer.h5": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "page.h5": (b"<!DOCTYPE html><html></html>", "a web page"),
    "saved.pkl": (pickle.dumps({"a": 1}), "a pickle, which runs code.*is not opened"),
    "model.h5": (pickle.dumps({"a": 1}, protocol=2), "a pickle"),
    "net.tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(20), "TensorFlow Lite"),
    "packed.h5": (gzip.compress(b"x"), "gzip"),
    "net.pt": (zipped(archive__data_DOT_pkl=b"x"), "PyTorch"),
    "converted.zip": (zipped(keras_model_DOT_h5=b"x"), "keras_model.h5 in it: unpack it"),
    "other.zip": (zipped(readme=b"x"), "holds no config.json"),
    "array.npy": (b"\x93NUMPY\x01\x00", "an array of numpy"),
    "net.yaml": (b"backend: tensorflow\nclass_name: Sequential\nconfig:\n- a\n", "YAML"),
    "web.json": (json.dumps({"modelTopology": {}, "weightsManifest": []}).encode(), "TensorFlow.js"),
    "list.json": (b"[1, 2]", "describes no network"),
    "cut.json": (b'{"class_name": "Sequ', "damaged.*JSON"),
    "w.index": (bytes(range(60)), "checkpoint, which is weights alone"),
    "net.onnx": (b"\x08\x08\x12\x07wetread", "another kind"),
    "noise.h5": (b"\xff" * 100, "damaged: it begins with"),
    "noise.keras": (b"\xff" * 100, "damaged"),
    "noise": (b"\xff" * 100, "no kind that Keras writes"),
    "cut.keras": (zipped(config_DOT_json=b"{}" * 500)[:60], "damaged.*cut off or changed"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_network_is_called_what_it_is(name, tmp_path):
    content, words = STRANGERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError, match=words):
        find_network(tmp_path / name)


def test_what_is_not_there():
    with pytest.raises(ExportError, match="does not exist"):
        find_network("nowhere.keras")


@pytest.mark.parametrize("name", ["a.h5", "a.hdf5", "a.keras", "a.json", "a"])
def test_a_name_is_not_believed(name, tmp_path):
    place = tmp_path / name
    assert find_network(hdf5(place))[1] is Kind.HDF5
    place.write_bytes(zipped(config_DOT_json=b"{}"))
    assert find_network(place)[1] is Kind.KERAS
    place.write_text(json.dumps({"class_name": "Sequential", "config": []}))
    assert find_network(place)[1] is Kind.JSON
    place.write_text(json.dumps(place.read_text()))  # JSON in a string, as json.dump(model.to_json()) writes
    assert find_network(place)[1] is Kind.JSON


def test_hdf5_behind_a_block_of_its_users(tmp_path):
    assert find_network(hdf5(tmp_path / "a.h5", userblock=1024))[1] is Kind.HDF5


def test_folders(tmp_path):
    with pytest.raises(ExportError, match="holds nothing"):
        find_network(tmp_path)
    (tmp_path / "variables").mkdir()
    with pytest.raises(ExportError, match="damaged.*without its saved_model.pb"):
        find_network(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    assert find_network(tmp_path) == (tmp_path, Kind.SAVED_MODEL)
    assert find_network(tmp_path / "saved_model.pb") == (tmp_path, Kind.SAVED_MODEL)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory) -> Path:
    """Laid out as Keras does: stored, not compressed, its weights last."""
    path = tmp_path_factory.mktemp("net") / "net.keras"
    weights = hdf5(path.with_name("weights.h5")).read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.5.0"}))
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": []}}))
        archive.writestr("model.weights.h5", weights)
    assert read_architecture(*find_network(path)).version == "3.5.0"
    return path


@given(st.data())
def test_a_cut_or_changed_keras_file_is_called_damaged(keras_file, tmp_path_factory, data):
    content = keras_file.read_bytes()
    place = tmp_path_factory.mktemp("cut") / "net.keras"
    place.write_bytes(content[: data.draw(st.integers(5, len(content) - 1))])
    with pytest.raises(ExportError, match="damaged"):
        read_architecture(*find_network(place))


def test_a_wrong_checksum_inside_is_named(keras_file, tmp_path):
    content = bytearray(keras_file.read_bytes())
    at = content.index(b"model.weights.h5") + 400
    content[at] ^= 1
    (tmp_path / "net.keras").write_bytes(content)
    with pytest.raises(ExportError, match=r"damaged: the checksum of model\.weights\.h5"):
        read_architecture(*find_network(tmp_path / "net.keras"))


def test_a_cut_hdf5_file_is_called_damaged(tmp_path):
    path = hdf5(tmp_path / "net.h5", model_config=json.dumps({"class_name": "Sequential", "config": []}))
    with h5py.File(path, "r+") as file:
        file["model_weights"]["kernel"] = np.zeros(1000)
    assert read_architecture(path, Kind.HDF5).major == 2
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ExportError, match="damaged.*truncated"):
        read_architecture(path, Kind.HDF5)


def test_weights_alone_and_versions(tmp_path):
    assert read_architecture(hdf5(tmp_path / "w.h5"), Kind.HDF5) is None
    config = json.dumps({"class_name": "Sequential", "config": []})
    for version, major in (("1.2.2", 1), ("2.2.4-tf", 2), ("3.5.0", 3), ("", 2)):
        path = hdf5(tmp_path / f"{major}.h5", model_config=config, keras_version=version)
        assert read_architecture(path, Kind.HDF5).major == major
