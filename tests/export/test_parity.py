"""Keras beside ONNX files, from image files: figures, flips, layers, and the helper for pytest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from scipy.stats import binomtest

from tests.export.networks import KERAS_WARNING, LABELS, draw_lamps, toy_spec
from wetread.cli import run as run_command
from wetread.errors import ExportError
from wetread.export import NetworkDescription, assert_parity, export_keras, measure_parity
from wetread.export.contract import finish
from wetread.export.flips import measure_margins
from wetread.export.parity_certificate import check_name, hash_statement, make_certificate, write_certificate
from wetread.export.report import (
    Flip,
    check_folder,
    describe_report,
    tabulate,
    tabulate_layers,
    write_report,
)
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.model.spec import ModelSpec, extract_spec
from wetread.runtime.scoring.classifier import Classifier

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh")
    draw_lamps(folder, count=90, first=5000)
    (folder / "left" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


@pytest.fixture(scope="module")
def report(toy, float32_model, int8_model, folder):
    return measure_parity(toy.run, models=[float32_model, int8_model], images=folder, by_layer=True)


def rewrite(model: onnx.ModelProto, path: Path, spec: ModelSpec, **changes: object) -> Path:
    """Write a graph under another spec, without a self-test: a valid model all the same."""
    values = {**json.loads(spec.to_json()), "golden": None, **changes}
    path.write_bytes(finish(model, ModelSpec.from_json(json.dumps(values))))
    return path


@pytest.fixture(scope="module")
def shifted(float32_model, tmp_path_factory):
    """The float32 file with one bias of its second convolution off, a valid model all the same."""
    model = onnx.load(float32_model)
    (layer,) = [node for node in model.graph.node if node.name == "conv2d_1/Conv"]
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == layer.input[2]]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    path = tmp_path_factory.mktemp("shifted") / "shifted.onnx"
    spec = extract_spec(float32_model.read_bytes(), name="float32")
    return rewrite(model, path, spec)


def test_the_figures_are_those_of_the_images(toy, report, float32_model, folder):
    import keras

    spec = toy_spec()
    names = sorted(str(path) for path in folder.rglob("lamp*.jpg"))
    pixels = np.stack([read_pixels(Path(name).read_bytes(), spec.pixels) for name in names])
    model = keras.saving.load_model(toy.run / "model.keras", compile=False)
    logits = model.predict(pixels.astype(np.float32) / np.float32(255), verbose=0).astype(np.float64)
    expected = 1 / (1 + np.exp(-logits[:, 0]))
    found = Classifier(float32_model, device="cpu").classify(pixels)
    assert report.images == 90
    assert report.failures == (f"{folder}/left/broken.jpg",)
    difference = np.abs(found[:, 1] - expected)
    assert report.models[0].max_difference == pytest.approx(difference.max(), abs=2e-7)
    assert report.models[0].max_difference <= 1e-5
    assert report.models[1].max_difference > 1e-5
    assert report.passed


def test_a_model_that_departs_fails_and_names_its_flips_and_its_layer(toy, shifted, folder):
    report = measure_parity(toy.run, models=[shifted], images=folder, by_layer=True)
    (model,) = report.models
    assert not report.passed
    assert model.flips == len(model.flipped) > 0
    for flip in model.flipped:
        assert flip.path.startswith(str(folder))
        assert {flip.keras_label, flip.label} == set(LABELS)
        assert flip.keras_probability < 0.5 <= flip.probability
    first = next(layer for layer in report.layers if layer.departs)
    assert first.layer == "conv2d_1"
    named = f"first layer that departs in {shifted}: conv2d_1 (Conv2D), off by "
    assert named in describe_report(report)
    assert next(row for row in tabulate_layers(report) if row[0] == "conv2d_1")[2].endswith(" !")
    with pytest.raises(AssertionError, match="flip in .*shifted.onnx") as caught:
        assert_parity(toy.run, models=[shifted], images=folder)
    assert named in str(caught.value)


def test_many_flips_are_counted_and_not_all_listed(report):
    flip = Flip("a/x.jpg", "x.jpg", "left", "right", 0.4, 0.6, 0.1)
    many = dataclasses.replace(report.models[0], flips=50, flipped=(flip,) * 50)
    lines = describe_report(dataclasses.replace(report, models=(many,), layers=())).splitlines()
    assert len([line for line in lines if line.startswith("flip in")]) == 21
    assert lines[-1] == f"flip in {many.path}: and 30 more"


def test_layers_of_a_faithful_model_do_not_depart(report, float32_model, int8_model):
    names = ["conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1", "flatten", "dense", "dense_1"]
    for path in (float32_model, int8_model):
        layers = [layer for layer in report.layers if layer.model == str(path)]
        found = [layer.layer for layer in layers]
        assert found == [name for name in names if name in found]
        assert {"conv2d_1", "dense", "dense_1"} <= set(found)
        assert not any(layer.departs for layer in layers)
        assert f"no layer departs in {path}: {len(layers)} compared, the most is" in describe_report(report)
    header, *rows = tabulate_layers(report)
    assert header == ["layer", "kind", "float32.onnx", "int8.onnx"]
    assert [row[:2] for row in rows[:2]] == [["conv2d", "Conv2D"], ["max_pooling2d", "MaxPooling2D"]]


def test_flips_are_few_or_the_test_fails(toy, int8_model, folder):
    with pytest.raises(AssertionError, match="NO"):
        assert_parity(toy.run, models=[int8_model], images=folder, max_flips=-0.1)
    recorded: dict[str, object] = {}
    report = assert_parity(
        toy.run / "model.keras", models=[int8_model], images=[folder], record=recorded.__setitem__
    )
    assert recorded["int8.onnx flips"] == report.models[0].flips
    assert len(recorded) == 5


def test_tolerance_is_held(toy, float32_model, folder):
    with pytest.raises(AssertionError, match="NO"):
        assert_parity(toy.run, models=[float32_model], images=folder, tolerance=1e-12)


def test_the_report_is_json_and_a_table(report, float32_model):
    values = json.loads(json.dumps(report.to_dict()))
    assert values["passed"] is True
    assert values["models"][0]["path"] == str(float32_model)
    rows = tabulate(report)
    assert [row[0] for row in rows[1:]] == [
        report.reference,
        f"{float32_model} (float32)",
        f"{report.models[1].path} (int8)",
    ]
    assert all(len(row) == len(rows[0]) for row in rows)


def test_a_model_that_answers_no_probabilities_fails_in_json_too(toy, float32_model, folder, tmp_path):
    model = onnx.load(float32_model)
    (layer,) = [node for node in model.graph.node if node.name == "conv2d_1/Conv"]
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == layer.input[2]]
    bias.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(bias), np.nan), bias.name))
    spec = extract_spec(float32_model.read_bytes(), name="float32")
    broken = rewrite(model, tmp_path / "broken.onnx", spec)
    report = measure_parity(toy.run, models=[broken], images=folder, by_layer=True)
    assert not report.passed and not report.models[0].passed
    write_report(report, tmp_path / "report.json")
    values = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    (found,) = values["models"]
    assert found["max_difference"] is None
    assert (found["flips"], found["near_flips"], len(found["flipped"])) == (90, 0, 90)
    assert {flip["label"] for flip in found["flipped"]} == {"no_answer"}
    assert "conv2d_1" in describe_report(report)
    write_certificate(report, tmp_path / "certificate.json")
    certificate = json.loads((tmp_path / "certificate.json").read_text(), parse_constant=pytest.fail)
    assert certificate["statement"]["passed"] is False
    assert hash_statement(certificate["statement"]) == certificate["statement_sha256"]


def test_models_of_two_networks_are_not_compared(toy, float32_model, folder, tmp_path):
    spec = extract_spec(float32_model.read_bytes(), name="float32")
    graph, other = onnx.load(float32_model), tmp_path / "other.onnx"
    rewrite(graph, other, spec, labels=["x", "y"], positive="y")
    with pytest.raises(ExportError, match="labels"):
        measure_parity(toy.run, models=[float32_model, other], images=folder)
    with pytest.raises(ExportError, match="one or more"):
        measure_parity(toy.run, models=[], images=folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match="can be decoded"):
        measure_parity(toy.run, models=[float32_model], images=tmp_path / "empty")


def change_pixels(**changes: object) -> dict[str, object]:
    return {"pixels": dataclasses.asdict(toy_spec().pixels) | changes}


OTHERWISE = {
    "labels": (
        {"labels": ["right", "left"], "positive": "right"},
        "the labels of .*: right, left instead of left, right",
    ),
    "positive": ({"positive": "left"}, "the positive label of .*: left instead of right"),
    "resize": (change_pixels(resize="fit"), "the pixels' resize of .*: fit instead of stretch"),
    "scale": ({"scale": [1.0]}, r"the scale of .*: 1\S* instead of 0\.00392156863"),
    "offset": ({"offset": [-0.5]}, r"the offset of .*: -0\.5 instead of 0"),
    "head": ({"head": "sigmoid"}, "the head of .*: sigmoid instead of logits"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_file_that_says_otherwise_than_its_run_is_refused(toy, float32_model, folder, tmp_path, name):
    """Keras, asked by the file's own terms, would agree with it: on the wrong labels, or the wrong pixels."""
    changes, words = OTHERWISE[name]
    spec = extract_spec(float32_model.read_bytes(), name="float32")
    other = rewrite(onnx.load(float32_model), tmp_path / "other.onnx", spec, **changes)
    with pytest.raises(ExportError, match=rf"{other} does not have {words}") as caught:
        measure_parity(toy.run, models=[other], images=folder)
    assert f"wetread export {toy.run}" in str(caught.value)
    with pytest.raises(ExportError, match="not a finished RUN directory: its spec.json"):
        measure_parity(tmp_path, models=[float32_model], images=folder)


def test_permuted_labels_agree_with_a_bare_file_alone_and_the_report_says_whence(toy, folder, tmp_path):
    file, output = toy.run / "model.keras", tmp_path / "permuted.onnx"
    description = NetworkDescription(labels=LABELS[::-1], scale=(0.003921568627,))
    export_keras(file, network_description=description, output=output)
    with pytest.raises(ExportError, match="labels of .*: right, left instead of left, right"):
        measure_parity(toy.run, models=[output], images=folder)
    report = measure_parity(file, models=[output], images=folder)
    assert report.passed  # nothing but the file says what its labels are
    (line,) = [line for line in describe_report(report).splitlines() if "taken from the model file" in line]
    for words in ("labels right, left (positive: left)", "32 x 32 gray, stretch", "pixel x 0.00392157 + 0"):
        assert words in line
    statement = make_certificate(report)["statement"]
    assert statement["terms"] == {
        "source": "the model file",
        "labels": ["right", "left"],
        "positive": "left",
        "pixels": dataclasses.asdict(toy_spec().pixels),
        "scale": [0.003921568627],
        "offset": [0.0],
        "head": "logits",
        "temperature": 1.0,
    }


def test_what_an_export_may_choose_again_is_no_difference(toy, float32_model, report, folder, tmp_path):
    """Another temperature and threshold; and a scale with ten digits is the run's own."""
    values = json.loads((toy.run / "spec.json").read_text()) | {"temperature": 2.0, "threshold": 0.3}
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.keras").write_bytes((toy.run / "model.keras").read_bytes())
    (run / "spec.json").write_text(json.dumps(values))
    found = measure_parity(run, models=[float32_model], images=folder)
    assert found.passed and (found.terms.temperature, found.models[0].threshold) == (1.0, 0.5)
    output = tmp_path / "digits.onnx"
    description = NetworkDescription(labels=LABELS, scale=(0.003921568627,))
    export_keras(run / "model.keras", network_description=description, output=output)
    assert measure_parity(toy.run, models=[output], images=folder).passed
    assert report.terms.source == "the RUN's spec.json"
    assert f"labels, pixels, scale, offset and head are those of {toy.run}/spec.json" in describe_report(
        report
    )


def test_the_command_refuses_and_writes_no_certificate(toy, float32_model, folder, tmp_path, capsys):
    spec = extract_spec(float32_model.read_bytes(), name="float32")
    other = tmp_path / "other.onnx"
    rewrite(onnx.load(float32_model), other, spec, labels=["right", "left"], positive="right")
    certificate = tmp_path / "certificate.json"
    words = [str(toy.run), str(other), "--images", str(folder), "--certificate", str(certificate)]
    assert run_command(["parity", *words]) == 1
    assert "does not have the labels of" in capsys.readouterr().err
    assert not certificate.exists()


def test_margins():
    probabilities = np.array([[0.3, 0.7], [0.51, 0.49]])
    assert measure_margins(probabilities, toy_spec()) == pytest.approx([0.2, 0.01])
    three = ModelSpec(labels=("a", "b", "c"))
    assert measure_margins(np.array([[0.2, 0.5, 0.3]]), three) == pytest.approx([0.2])


def test_a_certificate_says_the_same_when_it_is_made_again(toy, report, float32_model, int8_model, tmp_path):
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(str(report.failures[0]).rsplit("/", 2)[0], moved)
    again = measure_parity(toy.run, models=[float32_model, int8_model], images=moved)
    one, other = make_certificate(report), make_certificate(again)
    assert one["statement"] == other["statement"]
    assert one["statement_sha256"] == other["statement_sha256"] == hash_statement(one["statement"])
    assert set(one["circumstances"]) == {"made", "system", "milliseconds_per_image"}
    assert {"keras", "tensorflow", "onnxruntime", "wetread"} <= set(one["statement"]["versions"])
    (moved / "left" / "broken.jpg").unlink()
    (moved / "left" / "extra.jpg").write_bytes(next(moved.rglob("lamp*.jpg")).read_bytes())
    changed = measure_parity(toy.run, models=[float32_model, int8_model], images=moved)
    assert make_certificate(changed)["statement_sha256"] != one["statement_sha256"]


@pytest.mark.parametrize("suffix", ["json", "txt", "html"])
def test_certificates_are_written(report, tmp_path, suffix):
    path = tmp_path / f"certificate.{suffix}"
    write_certificate(report, path)
    text = path.read_text()
    for word in (report.reference_sha256, report.models[0].digest, report.listing_sha256, "no VNNI"):
        if word == "no VNNI" and "no VNNI" not in report.machine:
            continue
        assert word in text
    with pytest.raises(ExportError, match=r"\.json, \.txt or \.html"):
        write_certificate(report, tmp_path / "certificate.pdf")


@pytest.mark.parametrize("suffix", ["txt", "html"])
def test_labels_that_are_not_utf_8_are_written_as_escapes(report, tmp_path, suffix):
    odd = dataclasses.replace(report.terms, labels=("a\udcff", "\u9634"), positive="a\udcff")
    write_certificate(dataclasses.replace(report, terms=odd), tmp_path / f"c.{suffix}")
    text = (tmp_path / f"c.{suffix}").read_text(encoding="utf-8")
    assert "a\\udcff" in text and "\u9634" in text


def test_a_certificate_names_flips_below_the_folder_and_not_the_folder(toy, shifted, folder):
    report = measure_parity(toy.run, models=[shifted], images=folder)
    statement = make_certificate(report)["statement"]
    names = [flip["name"] for flip in statement["models"][0]["flipped"]]
    assert names and all(name.startswith("left/lamp") for name in names)
    assert str(folder) not in json.dumps(statement)


def test_what_the_flips_say_of_other_images_is_printed(report):
    """Beside scipy's exact interval."""
    (float32, int8), text = report.models, describe_report(report)
    count = int8.flips - int8.near_flips
    interval = binomtest(count, report.images).proportion_ci(0.95, method="exact")
    line = next(line for line in text.splitlines() if line.startswith(f"{int8.path}: "))
    assert line == (
        f"{int8.path}: {count} labels flip besides near ties, {interval.low:.1%} to {interval.high:.1%} of "
        "such images, at 95%; these images do not show whether that is below 0.50%"
    )
    assert f"\n{float32.path}: " not in text
    many = dataclasses.replace(report, images=2_000)
    assert "do not show" not in describe_report(many)
    assert int8.passed == (count <= 0.005 * report.images)


def test_places_are_checked_before_the_work(report, tmp_path):
    check_name(tmp_path / "certificate.json")
    check_folder("gs://bucket/report.json")
    for path in (tmp_path / "certificate.pdf", tmp_path / "nowhere" / "certificate.json"):
        with pytest.raises(ExportError):
            check_name(path)
    with pytest.raises(ExportError, match="does not exist"):
        check_folder(tmp_path / "nowhere" / "report.json")
    with pytest.raises(ExportError, match="Is a directory"):
        write_report(report, tmp_path)
    write_report(report, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["images"] == 90


def test_export_and_parity_have_one_default():
    import inspect

    from wetread.export import keras_to_onnx, parity, tolerance

    assert keras_to_onnx.TOLERANCE is parity.TOLERANCE is tolerance.TOLERANCE
    for function in (parity.measure_parity, parity.assert_parity):
        assert inspect.signature(function).parameters["tolerance"].default == tolerance.TOLERANCE
