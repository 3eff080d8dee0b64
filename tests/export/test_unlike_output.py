"""The output `unlike`: fitted at export, the same in every precision, and nothing of the first one's."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from tests.export.networks import KERAS_WARNING
from tests.export.test_first_convolution import Beginning
from tests.models import build_model, toy_spec
from tests.scoped import build_scoped, draw_disc
from wetread.errors import ConfigError, ExportError
from wetread.export import ExportOptions, NetworkDescription, export_keras, export_run
from wetread.export.contract import finish
from wetread.export.float16 import halve_graph
from wetread.export.graph import add_outputs, open_plain, optimize_graph
from wetread.export.images import read_run_images
from wetread.export.parity import describe_report, measure_parity
from wetread.export.scope_file import ScopeRequest, UnlikeRequest, build_request, read_scope
from wetread.export.selftest import Inputs, add_unlike_answers, make_golden
from wetread.export.unlike_nodes import (
    FeatureMap,
    Measure,
    attach_unlike,
    compute_features,
    detach_unlike,
    run_unlike,
)
from wetread.export.unlike_output import FIT_IMAGES, choose_maps, fit_unlike
from wetread.export.versions import change_images, vary_images
from wetread.runtime.model.scope import AttributeRule, Scope
from wetread.runtime.model.spec import NO_DIGEST, read_spec
from wetread.runtime.model.verify import verify_model
from wetread.runtime.scoring.classifier import Classifier

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)

SCOPE = """
purpose = "Lamps"

[unlike]
find = ["negative"]

[dicom.Modality]
one_of = ["CR", "DX"]
"""


@pytest.fixture(scope="module")
def scope_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("scope") / "scope.toml"
    file.write_text(SCOPE)
    return file


@pytest.fixture(scope="module")
def exported(toy, scope_file, int8_model, tmp_path_factory):
    """The toy RUN with a scope: as export writes it in float32, and the same measure in the int8 file."""
    folder = tmp_path_factory.mktemp("scoped")
    files = {precision: folder / f"{precision}.onnx" for precision in ("float32", "int8", "float16")}
    export_run(toy.run, output=files["float32"], options=ExportOptions(scope=scope_file))
    graph = detach_unlike(onnx.load(files["float32"]))
    spec = Classifier(files["float32"], device="cpu").spec
    read = read_run_images(toy.run, spec, training=FIT_IMAGES)
    request = read_scope(scope_file).unlike
    measure, unlike = fit_unlike(graph, request, fit=read.training.pixels, held_out=read.validation.pixels)
    assert unlike == spec.scope.unlike
    smaller = {"int8": onnx.load(int8_model), "float16": halve_graph(graph)}
    for precision, model in smaller.items():
        found = read_spec(int8_model.read_bytes(), name="int8") if precision == "int8" else spec
        found = replace(found, precision=precision, scope=spec.scope, version=2, digest=NO_DIGEST)
        made = attach_unlike(model, measure)
        bare = finish(made, found)
        files[precision].write_bytes(finish(made, replace(found, golden=make_answers(bare, found))))
    return files


def make_answers(bare, spec):
    """The golden answers of a file that has those of another."""
    if spec.precision == "int8":
        return add_unlike_answers(bare, spec)
    inputs = Inputs(spec.golden.seeds, spec.golden.intensities, 1.0)

    def keras(images):
        return np.array(spec.golden.keras)

    golden = make_golden(bare, inputs, spec.pixels, precision=spec.precision, keras=keras)
    return add_unlike_answers(bare, replace(spec, golden=golden))


@pytest.fixture(scope="module")
def images(toy, exported):
    return read_run_images(toy.run, Classifier(exported["float32"], device="cpu").spec).validation.pixels


@pytest.mark.long
@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_export_writes_the_same_measure_in_the_smaller_forms(toy, scope_file, exported, tmp_path, precision):
    options = ExportOptions(precision=precision, scope=scope_file)
    result = export_run(toy.run, output=tmp_path / "m.onnx", options=options)
    assert result.spec.scope == Classifier(exported["float32"], device="cpu").spec.scope
    assert verify_model(tmp_path / "m.onnx").passed


@pytest.mark.parametrize("precision", ["float32", "int8", "float16"])
def test_every_precision_has_it_and_verifies(exported, precision):
    classifier = Classifier(exported[precision], device="cpu")
    scope = classifier.spec.scope
    assert (classifier.spec.version, scope.purpose) == (2, "Lamps")
    assert scope.attributes == (AttributeRule(keyword="Modality", one_of=("CR", "DX")),)
    assert scope.unlike.changes == ("negative",) and scope.unlike.kept >= 0.98
    assert [output.name for output in classifier.session.get_outputs()] == ["probabilities", "unlike"]
    report = verify_model(exported[precision])
    assert report.passed and "scope" in [check.name for check in report.checks]


@pytest.mark.parametrize("precision", ["float32", "int8", "float16"])
def test_what_is_held_out_is_inside_and_noise_is_not(exported, images, precision):
    classifier = Classifier(exported[precision], device="cpu")
    threshold = np.float32(classifier.spec.scope.unlike.threshold)
    noise = np.random.default_rng(0).integers(0, 256, images[:40].shape, dtype=np.uint8)
    assert (classifier.judge(images)[1] > threshold).mean() <= 0.05
    assert (classifier.judge(noise)[1] > threshold).all()


def test_the_smaller_forms_agree_with_float32_on_what_is_outside(exported, images):
    kinds = np.concatenate([images, vary_images(images, copies=1), np.invert(images)])
    shares = {}
    for precision, file in exported.items():
        classifier = Classifier(file, device="cpu")
        shares[precision] = classifier.judge(kinds)[1] / classifier.spec.scope.unlike.threshold
    clear = np.abs(shares["float32"] - 1) > 0.05  # near the threshold an int8 network may say either
    assert clear.mean() > 0.7
    for precision in ("int8", "float16"):
        assert ((shares[precision] > 1) == (shares["float32"] > 1))[clear].mean() >= 0.98


def test_answers_do_not_depend_on_the_batch(exported, images):
    for file in exported.values():
        classifier = Classifier(file, device="cpu")
        one = np.concatenate([classifier.judge(images[at : at + 1])[1] for at in range(12)])
        assert one == pytest.approx(classifier.judge(images[:12])[1], rel=1e-4)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_probabilities_are_to_the_bit_those_without(exported, images, float32_model, int8_model, precision):
    plain = Classifier({"float32": float32_model, "int8": int8_model}[precision], device="cpu")
    scoped = Classifier(exported[precision], device="cpu")
    assert np.array_equal(plain.classify(images), scoped.judge(images)[0])
    assert plain.spec.version == 1 and '"scope"' not in plain.spec.to_json()


def test_what_is_detached_is_the_graph_before():
    graph = onnx.load_from_string(build_model(toy_spec()))
    scoped = onnx.load_from_string(build_scoped())
    bare = detach_unlike(scoped)
    assert [node.op_type for node in bare.graph.node] == [node.op_type for node in graph.graph.node]
    assert {t.name for t in bare.graph.initializer} == {t.name for t in graph.graph.initializer}


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("middle", [0, 1])
def test_the_features_are_means_of_the_maps_quarters(exported, images, precision, step, middle):
    """`middle`: rows that belong to no quarter, as of a map with odd sides."""
    graph = detach_unlike(onnx.load(exported[precision]))
    maps = choose_maps(detach_unlike(onnx.load(exported["float32"])), images[:2])
    assert maps[0].name != "image" and len({found.name for found in maps}) == len(maps) > 1
    session = open_plain(add_outputs(graph, [maps[0].name]).SerializeToString())
    value = session.run([maps[0].name], {"image": images[:3]})[0]
    high, wide = value.shape[2] // 2 - middle, value.shape[3] // 2
    stride = (value.shape[2] - high, value.shape[3] - wide)
    rows, columns = (slice(0, high), slice(-high, None)), (slice(0, wide), slice(-wide, None))
    cells = [value[:, ::step, row, column].mean(axis=(2, 3)) for row in rows for column in columns]
    expected = np.stack(cells, axis=2).reshape(3, -1)
    found = compute_features(graph, (FeatureMap(maps[0].name, step, (high, wide), stride),), images[:3])
    assert found == pytest.approx(expected, abs=1e-5)


def test_an_int8_map_is_averaged_in_integers(exported):
    fused = optimize_graph(onnx.load(exported["int8"]), "ORT_ENABLE_EXTENDED")
    made = [node.op_type for node in fused.graph.node if node.name.startswith("unlike/")]
    assert "MatMulIntegerToFloat" in made and "AveragePool" not in made


@pytest.mark.parametrize("weights", ["", "s8"])
def test_a_layer_may_be_called_unlike(weights):
    """It may also be the layer whose map is averaged."""
    found = []
    for name in ("first", "unlike"):
        beginning = Beginning(first=name, relu=False)
        graph = beginning.quantize(weights=weights) if weights else beginning.build()
        ones = np.ones(4 * beginning.filters, np.float32)
        measure = Measure(
            maps=(FeatureMap(name, 1, (11, 11), (11, 11)),),
            centre=0 * ones,
            spread=ones,
            matrix=ones[:, None].astype(np.float16),
            weights=ones[:1, None],
            rest=1.0,
            heads=np.zeros((len(ones), 0), np.float16),
            bias=np.zeros(0, np.float32),
        )
        found.append(run_unlike(attach_unlike(graph, measure), beginning.draw(3, 2)))
    assert np.array_equal(*found) and found[0].std() > 0


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("excluded", ["Conv_2", "Conv_4"])
def test_maps_beside_layers_in_float_are_averaged_too(excluded, step):
    """Before a layer in float, `Conv_4`, each channel has a scale of its own."""
    beginning = Beginning()
    graph, images = beginning.quantize(excluded=(excluded,)), beginning.draw(3, 2)
    value = open_plain(add_outputs(graph, ["positive"]).SerializeToString()).run(
        ["positive"], {"image": images}
    )[0]
    cells = value[:, ::step].reshape(3, -1, 2, 11, 2, 11).mean(axis=(3, 5))
    found = compute_features(graph, (FeatureMap("positive", step, (11, 11), (11, 11)),), images)
    assert found == pytest.approx(cells.reshape(3, -1), abs=1e-5)


def test_a_network_without_maps_is_measured_by_its_pixels():
    graph = onnx.load_from_string(build_model(toy_spec()))
    assert choose_maps(graph, np.zeros((2, 64, 64, 1), np.uint8)) == (FeatureMap("image", 1, (8, 8), (8, 8)),)


def test_it_works_in_color_and_with_many_labels():
    spec = toy_spec(labels=("a", "b", "c", "d"), color="rgb")
    graph = onnx.load_from_string(build_model(spec))
    fit, held_out = (
        np.concatenate([np.stack([draw_disc(s) for s in seeds])] * 3, axis=3)
        for seeds in (range(120), range(200, 320))
    )
    measure, unlike = fit_unlike(graph, UnlikeRequest(), fit=fit, held_out=held_out)
    assert unlike.changes == () and measure.heads.shape[1] == 0
    data = finish(attach_unlike(graph, measure), replace(spec, scope=Scope(purpose="x", unlike=unlike)))
    classifier = Classifier(data, device="cpu")
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), dtype=np.uint8)
    assert (classifier.judge(held_out)[1] <= unlike.threshold).mean() >= 0.98
    assert (classifier.judge(noise)[1] > unlike.threshold).mean() > 0.95


def test_the_same_images_fit_the_same_bytes():
    assert build_scoped() == build_scoped.__wrapped__()


def test_too_few_images_are_refused():
    graph = onnx.load_from_string(build_model(toy_spec()))
    few = np.stack([draw_disc(seed) for seed in range(19)])
    with pytest.raises(ExportError, match="20 images or more"):
        fit_unlike(graph, UnlikeRequest(), fit=few, held_out=few)


def test_without_images_there_are_words_and_rules_and_a_note(toy, scope_file, tmp_path):
    described = NetworkDescription(labels=("dark", "lit"), scale=(1 / 255,), head="logits")
    result = export_keras(
        toy.run / "model.keras",
        network_description=described,
        output=tmp_path / "m.onnx",
        options=ExportOptions(scope=scope_file),
    )
    assert result.spec.scope.purpose == "Lamps" and result.spec.scope.unlike is None
    assert any("words and rules alone" in note for note in result.notes)


def test_versions_keep_shape_and_type_and_are_the_same_again():
    images = np.stack([draw_disc(seed) for seed in range(10)])
    for some in (images, np.repeat(images, 3, axis=3), images[:, :40]):
        varied = vary_images(some, copies=2)
        assert varied.dtype == np.uint8 and varied.shape == (20, *some.shape[1:])
        assert np.array_equal(varied, vary_images(some, copies=2))
        assert np.abs(varied[:10].astype(int) - some).mean() > 1


def test_changes_are_what_they_are_called():
    images = np.stack([draw_disc(seed) for seed in range(3)])
    assert np.array_equal(change_images(images, "negative"), 255 - images)
    assert np.array_equal(change_images(images, "mirrored")[:, :, ::-1], images)
    turned = change_images(images, "turned")
    assert len(turned) == 9 and np.array_equal(np.rot90(turned[:3], -1, axes=(1, 2)), images)
    assert len(change_images(images[:, :40], "turned")) == 3


def test_a_file_is_read_as_it_stands(scope_file):
    assert read_scope(scope_file) == ScopeRequest(
        scope=Scope(purpose="Lamps", attributes=(AttributeRule(keyword="Modality", one_of=("CR", "DX")),)),
        unlike=UnlikeRequest(find=("negative",)),
    )
    assert build_request({"purpose": "x", "unlike": False}).unlike is None
    assert build_request({"purpose": "x"}).unlike == UnlikeRequest()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "purpose"),
        ({"purpose": "x", "dcm": {}}, "dcm"),
        ({"purpose": "x", "dicom": {"Modality": {"oneof": ["CR"]}}}, "oneof"),
        ({"purpose": "x", "dicom": {"Modality": {"one_of": [1]}}}, "one_of"),
        ({"purpose": "x", "dicom": {"PatientName": {"one_of": ["A"]}}}, "PatientName"),
        ({"purpose": "x", "unlike": {"find": ["sideways"]}}, "sideways"),
        ({"purpose": "x", "unlike": {"keep": 1.0}}, "keep"),
        ({"purpose": "x", "unlike": True}, "unlike"),
        ({"purpose": 3}, "purpose"),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_name(values, said):
    with pytest.raises(ConfigError, match=said):
        build_request(values)


def test_a_file_that_is_not_there_or_no_toml_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        read_scope(tmp_path / "none.toml")
    (tmp_path / "json.toml").write_text(json.dumps({"purpose": "x"}))
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_scope(tmp_path / "json.toml")


def test_the_packaged_scope_can_be_read(request):
    found = read_scope(request.config.rootpath / "benchmarks" / "chest-scope.toml")
    assert found.unlike.find == ("turned", "negative", "mirrored")
    assert [rule.keyword for rule in found.scope.attributes][:2] == ["Modality", "PresentationIntentType"]


def test_parity_compares_what_is_outside(toy, exported, float32_model):
    files = [exported["float32"], exported["int8"], float32_model]
    report = measure_parity(toy.run, models=files, images=toy.data)
    first, small, plain = report.models
    assert report.passed and first.scope_flips == 0
    assert small.scope_flips <= 0.005 * report.images and abs(small.outside - first.outside) <= 2
    assert (plain.outside, plain.scope_flips) == (None, None)
    assert f"scope of {files[1]}: {small.outside} of {report.images} outside" in describe_report(report)


def test_parity_fails_where_a_file_says_otherwise(toy, exported, tmp_path):
    data = exported["float32"].read_bytes()
    spec = read_spec(data, name="m")
    strict = replace(spec.scope.unlike, threshold=1e-9)
    other = replace(spec, scope=replace(spec.scope, unlike=strict), digest=NO_DIGEST)
    (tmp_path / "strict.onnx").write_bytes(finish(onnx.load_from_string(data), other))
    files = [exported["float32"], tmp_path / "strict.onnx"]
    report = measure_parity(toy.run, models=files, images=toy.data)
    assert not report.passed and report.models[0].passed
    assert report.models[1].scope_flips > 0.9 * report.images
