from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

import wetread
from tests.conftest import draw_image
from tests.models import build_model, toy_spec
from wetread.errors import ModelError, ProviderError, SourceError, TamperedModelError, UsageError
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.model.packaged import find_packaged_model
from wetread.runtime.model.spec import stamp_digest
from wetread.runtime.scoring.classifier import Classifier


def test_classify_gives_rows_that_sum_to_one(toy_model):
    classifier = Classifier(toy_model)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 1), dtype=np.uint8)
    probabilities = classifier.classify(images)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (5, 2)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert classifier.classify(images[:0]).shape == (0, 2)


def test_a_row_does_not_depend_on_its_neighbours(toy_model):
    classifier = Classifier(toy_model)
    images = np.random.default_rng(1).integers(0, 256, (33, 64, 64, 1), dtype=np.uint8)
    whole = classifier.classify(images)
    for size in (1, 2, 5, 32):
        parts = [classifier.classify(images[at : at + size]) for at in range(0, 33, size)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_arrays_of_another_shape_or_type_are_refused(toy_model):
    classifier = Classifier(toy_model)
    with pytest.raises(ModelError, match=r"\(N, 64, 64, 1\)"):
        classifier.classify(np.zeros((1, 32, 64, 1), np.uint8))
    with pytest.raises(ModelError, match="float32"):
        classifier.classify(np.zeros((1, 64, 64, 1), np.float32))
    with pytest.raises(ModelError, match="int64"):
        classifier.classify([[1]])


def test_score_yields_lazily_in_order_from_the_front_door(toy_model, image_folder):
    (image_folder / "a0" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    classifier = wetread.Classifier(toy_model)
    rows = classifier.score(image_folder)
    first = next(rows)
    rest = list(rows)
    paths = [first.path, *(row.path for row in rest)]
    assert paths == sorted(paths, key=str.encode)
    assert len(paths) == 13
    assert [row.status for row in (first, *rest)].count("ok") == 12
    assert isinstance(first, wetread.Prediction)


@pytest.mark.parametrize(("labels", "color"), [(("a", "b", "c", "d"), "gray"), (("x", "y", "z"), "rgb")])
def test_many_labels_and_colour(tmp_path, labels, color):
    model = build_model(toy_spec(labels=labels, size=32, color=color))
    (tmp_path / "p.png").write_bytes(draw_image(3, suffix=".png"))
    (row,) = Classifier(model).score(tmp_path)
    assert row.label == labels[int(np.argmax(row.probabilities))]
    assert row.probability == max(row.probabilities)


def test_path_bytes_and_score_agree(toy_model, tmp_path):
    data = draw_image(4, height=300, width=200)
    (tmp_path / "p.jpg").write_bytes(data)
    classifier = Classifier(toy_model)
    (row,) = classifier.score(tmp_path / "p.jpg")
    direct = classifier.classify(read_pixels(data, classifier.spec.pixels)[None])
    again = Classifier(toy_model.read_bytes()).classify(read_pixels(data, classifier.spec.pixels)[None])
    assert np.array_equal(np.array([row.probabilities], np.float32), direct)
    assert np.array_equal(direct, again)


def test_files_that_are_not_wetreads_are_refused(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        Classifier(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match="wetread export"):
        Classifier(tmp_path / "text.onnx")


def test_a_changed_file_is_refused_before_a_session_is_made(toy_model):
    data = bytearray(toy_model.read_bytes())
    data[len(data) // 3] ^= 4
    with pytest.raises(TamperedModelError, match="Copy it again"):
        Classifier(bytes(data))


def test_a_graph_that_breaks_the_contract_is_refused():
    for change in (
        lambda graph: setattr(graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 32),
        lambda graph: graph.output.insert(0, graph.output.pop()) or rename(graph, "probabilities", "p"),
        lambda graph: rename(graph, "image", "picture"),
    ):
        model = onnx.load_from_string(build_model(toy_spec()))
        change(model.graph)
        clear_digest(model)
        with pytest.raises((ModelError, ProviderError)):
            Classifier(stamp_digest(model.SerializeToString()))


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def clear_digest(model: onnx.ModelProto) -> None:
    import re

    for entry in model.metadata_props:
        entry.value = re.sub('"digest":"[0-9a-f]{64}"', f'"digest":"{"0" * 64}"', entry.value)


def test_a_source_that_is_not_there(toy_model, tmp_path):
    with pytest.raises(SourceError):
        next(Classifier(toy_model).score(tmp_path / "none"))


def test_without_a_name_it_is_the_packaged_model():
    classifier = Classifier()
    assert classifier.spec.labels == ("NORMAL", "PNEUMONIA")
    assert classifier.digest == Classifier(find_packaged_model()).digest


def test_several_sources_are_scored_in_turn(toy_model, image_folder):
    classifier = Classifier(toy_model)
    paths = [prediction.path for prediction in classifier.score(image_folder)]
    again = list(classifier.score([paths[3], paths[0]]))
    assert [prediction.path for prediction in again] == [paths[3], paths[0]]
    assert [prediction.status for prediction in again] == ["ok", "ok"]


@pytest.mark.parametrize("address", ["s3://bucket/x", "az://box/x", "https://host/x.jpg", "file:///x.jpg"])
def test_other_storages_are_refused_by_name(toy_model, address):
    with pytest.raises(UsageError, match=re.escape(address.partition("/")[0])) as caught:
        next(Classifier(toy_model).score(address))
    assert "is not supported" in str(caught.value) and "gs://" in str(caught.value)
