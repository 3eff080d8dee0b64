"""From a RUN directory or a Keras file to the model file: what appears, and what never does."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from tests.export.networks import KERAS_WARNING, LABELS, SIDE, build_network, toy_spec
from wetread.cli.export import app
from wetread.cli.export_output import describe_difference
from wetread.errors import ConfigError, DatasetError, ExportError
from wetread.evaluate.held_out import OperatingRequest
from wetread.export import (
    ExportOptions,
    GateError,
    NetworkDescription,
    export_keras,
    export_run,
    measure_parity,
)
from wetread.export import convert as convert_module
from wetread.export.description import draw_probes
from wetread.export.images import ExportImages, Images
from wetread.export.judging import Candidate, Gate
from wetread.export.network import load_network, predict_network, wrap_network
from wetread.export.notes import note_alike_answers, note_only_answer, take_notes
from wetread.runtime.machine import read_processor
from wetread.runtime.model.verify import describe_processor
from wetread.runtime.scoring.classifier import Classifier

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)


def test_float32_says_what_keras_says(toy, float32_model):
    classifier = Classifier(float32_model, device="cpu")
    wrapped = wrap_network(load_network(toy.run / "model.keras"), (SIDE, SIDE, 1))
    images = draw_probes(classifier.spec)
    keras = predict_network(wrapped, images, classifier.spec)
    assert np.abs(classifier.classify(images) - keras).max() <= 1e-5
    assert np.abs(classifier.classify(images[:1]) - keras[:1]).max() <= 1e-5
    assert keras[:, 1].std() > 0.01  # or the comparison would show nothing


def test_the_file_keeps_the_contract(float32_model):
    model = onnx.load(float32_model)
    onnx.checker.check_model(model, full_check=True)
    (image,), (probabilities,) = model.graph.input, model.graph.output
    dims = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert (image.name, image.type.tensor_type.elem_type, dims) == ("image", 2, ["N", SIDE, SIDE, 1])
    dims = [d.dim_param or d.dim_value for d in probabilities.type.tensor_type.shape.dim]
    assert (probabilities.name, probabilities.type.tensor_type.elem_type, dims) == (
        "probabilities",
        1,
        ["N", 2],
    )
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]


def test_the_graph_is_lean_and_named_by_the_layers(float32_model):
    nodes = onnx.load(float32_model).graph.node
    assert [node.name for node in nodes] == [
        "conv2d/Reshape",
        "conv2d/Cast",
        "conv2d/Conv",
        "conv2d/Relu",
        "max_pooling2d/MaxPool",
        "conv2d_1/Conv",
        "conv2d_1/Relu",
        "max_pooling2d_1/MaxPool",
        "flatten/Transpose",
        "dense/Reshape",
        "dense/Gemm",
        "dense/Relu",
        "head/Gemm",
        "head/Mul",
        "head/Softmax",
    ]


def test_an_export_can_be_repeated_to_the_byte(toy, float32_model, tmp_path):
    export_run(toy.run, output=tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == float32_model.read_bytes()


def test_int8_is_smaller_faithful_and_says_how_it_was_chosen(toy, float32_model, int8_model):
    spec = Classifier(int8_model, device="cpu").spec
    assert spec.precision == "int8"
    assert spec.quantization["flips"] <= 0.005 * spec.quantization["images"]
    assert int8_model.stat().st_size < 0.6 * float32_model.stat().st_size
    report = json.loads(int8_model.with_suffix(".quantization.json").read_text())
    assert report["chosen"] == spec.quantization
    assert report["gate"] == {"max_flips": 0.005, "max_auc_change": 0.002}
    assert report["machine"] == describe_processor(read_processor())
    (chosen,) = [candidate for candidate in report["candidates"] if candidate["chosen"]]
    assert chosen["name"] == spec.quantization["form"]
    assert report["candidates"][0]["name"] == "float32"
    assert len(report["candidates"]) >= 7
    assert len(spec.to_json()) <= 20_000


def test_exact_integers_from_the_command_line(toy, tmp_path):
    output = tmp_path / "exact.onnx"
    words = ["export", str(toy.run), "--output", str(output), "--precision", "int8", "--exact-integers"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    spec = Classifier(output, device="cpu").spec
    assert spec.quantization["tried"] == 5
    assert set(spec.quantization.get("float layers", ())) <= {"head/Gemm"}
    assert spec.golden.exact_tolerance <= 1e-4


def test_float16_holds_the_gate(toy, float32_model, tmp_path):
    output = tmp_path / "half.onnx"
    result = export_run(toy.run, output=output, options=ExportOptions(precision="float16"))
    assert result.candidates[1].flips <= 0.005 * result.candidates[1].images
    assert all(candidate.speed > 0 for candidate in result.candidates)
    assert result.size < 0.65 * float32_model.stat().st_size
    assert Classifier(output, device="cpu").spec.precision == "float16"


@pytest.mark.parametrize(("factor", "holds"), [(1e6, False), (1e2, True)])
def test_a_float16_form_that_would_overflow_on_a_gpu_is_refused(toy, tmp_path, factor, holds):
    """A network that computes the same by larger numbers in between: half precision ends at 65,504."""
    import keras

    run = tmp_path / "run"
    shutil.copytree(toy.run, run)
    model = keras.saving.load_model(run / "model.keras", compile=False)
    first, second = (model.get_layer(name) for name in ("conv2d", "conv2d_1"))
    first.set_weights([weight * factor for weight in first.get_weights()])
    kernel, bias = second.get_weights()
    second.set_weights([kernel / factor, bias])
    model.save(run / "model.keras")
    output, options = tmp_path / "half.onnx", ExportOptions(precision="float16")
    if holds:
        assert export_run(run, output=output, options=options).candidates[1].holds
        return
    with pytest.raises(
        GateError, match=r"float16 ends at 65,504, and conv2d\S* reaches [\d.,e+]+ on"
    ) as caught:
        export_run(run, output=output, options=options)
    whole, half = caught.value.candidates
    assert whole.holds and not half.holds and not half.chosen
    assert list(tmp_path.iterdir()) == [run]


def test_nothing_appears_when_the_conversion_disagrees(toy, tmp_path, monkeypatch):
    right = convert_module.network.predict_network
    monkeypatch.setattr(
        convert_module.network, "predict_network", lambda *arguments: right(*arguments) + 2e-4
    )
    with pytest.raises(ExportError, match="0.0001 is accepted"):
        export_run(toy.run, output=tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_nothing_appears_when_no_form_holds_the_gate(toy, tmp_path, precision):
    options = ExportOptions(precision=precision, gate=Gate(max_flips=-1.0))
    with pytest.raises(GateError, match=r"No (int8 )?file was written") as caught:
        export_run(toy.run, output=tmp_path / "model.onnx", options=options)
    assert list(tmp_path.iterdir()) == []
    assert caught.value.candidates[0].name == "float32"
    assert not any(candidate.chosen or candidate.holds for candidate in caught.value.candidates[1:])


def test_a_signed_export(toy, tmp_path):
    pytest.importorskip("cryptography")
    from tests.keys import write_keys

    private, public = write_keys(tmp_path)
    result = export_run(toy.run, output=tmp_path / "model.onnx", options=ExportOptions(sign=private))
    assert result.signature == tmp_path / "model.onnx.sig"
    assert Classifier(result.path, device="cpu", public_key=public).spec == result.spec


def test_what_belonged_to_the_model_before_goes_with_it(toy, tmp_path):
    pytest.importorskip("cryptography")
    from tests.keys import write_keys

    private, _ = write_keys(tmp_path)
    output, report = tmp_path / "model.onnx", tmp_path / "model.quantization.json"
    signature, other = tmp_path / "model.onnx.sig", tmp_path / "other.quantization.json"
    other.write_text("{}")
    result = export_run(toy.run, output=output, options=ExportOptions(precision="float16", sign=private))
    assert (result.report, result.signature) == (report, signature)
    export_run(toy.run, output=output, options=ExportOptions(sign=private))
    assert signature.exists() and not report.exists()
    export_run(toy.run, output=output)
    assert output.exists() and other.exists() and not signature.exists()
    signature.mkdir()  # what cannot be removed is named
    with pytest.raises(ExportError, match=r"model\.onnx\.sig.* cannot be removed"):
        export_run(toy.run, output=output)


def test_a_run_moved_with_its_images_elsewhere(toy, tmp_path):
    moved = tmp_path / "data"
    moved.symlink_to(toy.data)
    options = ExportOptions(precision="float16", calibration=moved)
    result = export_run(toy.run, output=tmp_path / "model.onnx", options=options)
    assert result.compared == 5 + 80


def test_an_unfinished_run_and_a_bad_output_are_refused(toy, tmp_path):
    with pytest.raises(ExportError, match=r"spec\.json"):
        export_run(tmp_path, output=tmp_path / "model.onnx")
    for name in ("model.txt", "nowhere/model.onnx"):
        with pytest.raises(ExportError, match="must end in .onnx"):
            export_run(tmp_path / "no run", output=tmp_path / name)  # said before anything is read
    with pytest.raises(ConfigError, match="The precision must be one of"):
        ExportOptions(precision="int4")
    with pytest.raises(ConfigError, match="No Ed25519 private key can be read"):
        options = ExportOptions(sign=tmp_path / "key.pem")
        export_run(tmp_path / "no run", output=tmp_path / "model.onnx", options=options)


def make_row(**changes) -> Candidate:
    row = {"name": "form", "flips": 0, "images": 500, "auc_change": None, "mean_difference": 0.0}
    row |= {"max_difference": 0.0, "size": 1, "safe": True, "holds": True, "speed": 100.0, "speedup": 1.0}
    return Candidate(**row | changes)


def test_a_slow_form_and_few_images_are_noted(tmp_path):
    float32 = make_row(name="float32")
    assert take_notes((float32, make_row(chosen=True)), Gate()) == ()
    (slow,) = take_notes((float32, make_row(chosen=True, speed=80.0, speedup=0.8)), Gate())
    assert slow.startswith("On this CPU form is slower than float32: 80 images/s on one thread against 100.")
    (useless,) = take_notes((float32, make_row(chosen=True, speedup=0.8)), Gate())
    assert useless.endswith("It gains nothing here: use float32.")
    (slow,) = take_notes((float32, make_row(chosen=True, speedup=0.8, size=0)), Gate())
    assert slow.endswith("Its gain here is size alone.")
    (alike,) = note_alike_answers(np.array([[0.5, 0.5], [0.5001, 0.4999]]))
    assert alike.startswith("Keras gives all 2 compared images nearly the same probabilities, or only")
    assert note_alike_answers(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert note_alike_answers(np.array([[0.5, 0.5], [0.6, 0.4]])) == ()
    (few,) = take_notes((float32, make_row(chosen=True, images=40)), Gate())
    assert few.startswith("Only 40 images judged it: a share of 0.5% can be seen from 200 on.")


def save(model, path):
    model.save(path)
    return path


HEADS = [
    (1, "sigmoid", ("no", "yes"), "sigmoid"),
    (1, None, ("no", "yes"), "logits"),
    (2, "softmax", ("no", "yes"), "softmax"),
    (4, None, ("a", "b", "c", "d"), "logits"),
]


@pytest.mark.parametrize(("units", "end", "labels", "head"), HEADS)
def test_a_foreign_network_of_every_head(tmp_path, units, end, labels, head):
    from keras import layers

    model = build_network(lambda x: layers.Conv2D(4, 3)(x), units=units, end=end)
    if head == "logits" and units == 1:  # its first answers must not look like probabilities
        model.layers[-1].set_weights([w * 40 for w in model.layers[-1].get_weights()])
    file = save(model, tmp_path / "net.keras")
    description = NetworkDescription(labels=labels, scale=(1 / 255,))
    result = export_keras(file, network_description=description, output=tmp_path / "net.onnx")
    assert result.spec.head == head
    classifier = Classifier(tmp_path / "net.onnx", device="cpu")
    images = draw_probes(result.spec)
    outputs = model.predict(images.astype(np.float32) / np.float32(255), verbose=0).astype(np.float64)
    found = classifier.classify(images)
    if units == 1:
        probability = outputs[:, 0] if end else 1 / (1 + np.exp(-outputs[:, 0]))
        assert found[:, 1] == pytest.approx(probability, abs=1e-5)
    else:
        expected = outputs if end else np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        assert found == pytest.approx(expected, abs=1e-5)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(found)), abs=1e-6)


def test_scale_offset_mean_and_std_stand_inside(tmp_path):
    from keras import layers

    model = build_network(lambda x: layers.Conv2D(4, 3, padding="same")(x), units=2)
    file = save(model, tmp_path / "net.keras")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    description = NetworkDescription(labels=LABELS, scale=(1 / 255,), mean=mean, std=std)
    result = export_keras(file, network_description=description, output=tmp_path / "net.onnx")
    images = draw_probes(result.spec)
    scaled = (images / 255 - np.array(mean)) / np.array(std)
    logits = model.predict(scaled.astype(np.float32), verbose=0).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = Classifier(tmp_path / "net.onnx", device="cpu").classify(images)
    assert found == pytest.approx(expected, abs=1e-5)


def test_temperature_divides_the_logits(toy, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.keras").write_bytes((toy.run / "model.keras").read_bytes())
    spec = json.loads((toy.run / "spec.json").read_text())
    (run / "spec.json").write_text(json.dumps(spec | {"temperature": 2.5}))
    export_run(run, output=tmp_path / "warm.onnx")
    export_run(toy.run, output=tmp_path / "cold.onnx")
    warm, cold = (Classifier(tmp_path / f"{name}.onnx", device="cpu") for name in ("warm", "cold"))
    images = draw_probes(warm.spec)
    logit = np.log(cold.classify(images).astype(np.float64))
    expected = 1 / (1 + np.exp((logit[:, 0] - logit[:, 1]) / 2.5))
    assert warm.classify(images)[:, 1] == pytest.approx(expected, abs=1e-5)


def test_sigmoids_that_the_graph_hides_are_no_logits(tmp_path):
    import keras
    from keras import layers

    def finish(x):
        pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
        return [layers.Dense(1, activation="sigmoid", name=f"s{k}")(pooled) for k in range(3)]

    image = keras.Input((32, 32, 3))
    file = save(keras.Model(image, layers.Concatenate()(finish(image))), tmp_path / "net.keras")
    description = NetworkDescription(labels=("a", "b", "c"), scale=(1 / 255,))
    with pytest.raises(ExportError, match="stay between 0 and 1. Say what they are with --head"):
        export_keras(file, network_description=description, output=tmp_path / "net.onnx")


REFUSED = [
    (3, "sigmoid", ("a", "b", "c"), "independent sigmoids"),
    (1, "softmax", ("a", "b"), "must end in logits, a sigmoid or a softmax"),
    (1, "relu", ("a", "b"), "must end in logits, a sigmoid or a softmax"),
    (3, "softmax", ("a", "b"), "3 output.s. for 2 labels"),
]


@pytest.mark.parametrize(("units", "end", "labels", "message"), REFUSED)
def test_heads_that_say_something_else_are_refused(tmp_path, units, end, labels, message):
    from keras import layers

    model = build_network(lambda x: layers.Conv2D(4, 3)(x), units=units, end=end)
    file = save(model, tmp_path / "net.keras")
    description = NetworkDescription(labels=labels, scale=(1 / 255,))
    with pytest.raises(ExportError, match=message):
        export_keras(file, network_description=description, output=tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_the_scale_must_be_said_or_inside(tmp_path):
    from keras import layers

    bare = save(build_network(lambda x: layers.Conv2D(4, 3)(x)), tmp_path / "bare.keras")
    own = build_network(lambda x: layers.Conv2D(4, 3)(layers.Rescaling(1 / 127.5, offset=-1)(x)))
    description = NetworkDescription(labels=("a", "b", "c"))
    with pytest.raises(ConfigError, match="The scale of the pixels that the network was trained on"):
        export_keras(bare, network_description=description, output=tmp_path / "net.onnx")
    scaling = save(own, tmp_path / "own.keras")
    result = export_keras(scaling, network_description=description, output=tmp_path / "net.onnx")
    assert result.spec.scale == (1.0,)


def test_int8_of_a_foreign_network_needs_and_takes_a_folder(toy, tmp_path):
    description = NetworkDescription(labels=LABELS, scale=(1 / 255,))
    output, file = tmp_path / "net.onnx", toy.run / "model.keras"
    with pytest.raises(ExportError, match="--calibration"):
        export_keras(
            file, network_description=description, output=output, options=ExportOptions(precision="int8")
        )
    options = ExportOptions(precision="int8", calibration=toy.data)
    result = export_keras(file, network_description=description, output=output, options=options)
    counts = result.spec.quantization
    assert counts["images"] == counts["confirmed_images"] == (320 - 160) // 2
    assert result.spec.quantization["auc_change"] is not None  # the folders carry the labels' names


def test_the_size_comes_from_the_network_or_must_be_said(tmp_path):
    from keras import layers

    model = build_network(lambda x: layers.Conv2D(4, 3)(x), shape=(None, None, 3))
    file = save(model, tmp_path / "net.keras")
    description = NetworkDescription(labels=("a", "b", "c"), scale=(1 / 255,))
    with pytest.raises(ExportError, match="--size"):
        export_keras(file, network_description=description, output=tmp_path / "net.onnx")
    sized = NetworkDescription(labels=("a", "b", "c"), scale=(1 / 255,), size=(24, 20))
    result = export_keras(file, network_description=sized, output=tmp_path / "net.onnx")
    assert result.spec.pixels.shape == (24, 20, 3)


def test_an_operating_point_is_chosen_again_on_held_out_predictions(toy, tmp_path):
    run, random = tmp_path / "run", np.random.default_rng(0)
    run.mkdir()
    for name in ("model.keras", "spec.json"):
        (run / name).write_bytes((toy.run / name).read_bytes())
    options = ExportOptions(operating=OperatingRequest(temperature="fit", rule="specificity>=0.9"))
    with pytest.raises(DatasetError, match="held-out images"):
        export_run(run, output=tmp_path / "net.onnx", options=options)
    truth = random.integers(0, 2, 200)
    likely = 1 / (1 + np.exp(-3 * random.normal(truth * 2 - 1, 1.5)))
    rows = [
        f"{i}.png,{LABELS[target]},{i},{1 - p},{p}"
        for i, (target, p) in enumerate(zip(truth, likely, strict=True))
    ]
    header = f"name,label,group,p_{LABELS[0]},p_{LABELS[1]}"
    (run / "held_out.csv").write_text("\n".join([header, *rows]) + "\n")
    spec = export_run(run, output=tmp_path / "net.onnx", options=options).spec
    assert spec.temperature > 1.5 and spec.threshold_rule == "specificity>=0.9"
    cooled = 1 / (1 + np.exp(-np.log(likely / (1 - likely)) / spec.temperature))
    assert (cooled[truth == 0] < spec.threshold).mean() == pytest.approx(0.9, abs=0.02)
    # Keras is asked at the same temperature: the two agree, and the graph is the one that is warmer.
    report = measure_parity(run, models=[tmp_path / "net.onnx"], images=toy.data / LABELS[0])
    assert report.passed and report.models[0].max_difference <= 1e-5
    assert Classifier(tmp_path / "net.onnx", device="cpu").spec.temperature == spec.temperature


def test_a_temperature_that_ended_on_its_bound_is_noted(toy, tmp_path):
    """Predictions that are sure, and right as often as wrong. A temperature that is given is its giver's."""
    run, random = tmp_path / "run", np.random.default_rng(0)
    run.mkdir()
    for name in ("model.keras", "spec.json"):
        (run / name).write_bytes((toy.run / name).read_bytes())
    truth, sure = random.integers(0, 2, 200), random.integers(0, 2, 200)
    rows = [
        f"{i}.png,{LABELS[target]},{i},{0.98 - 0.96 * p},{0.02 + 0.96 * p}"
        for i, (target, p) in enumerate(zip(truth, sure, strict=True))
    ]
    header = f"name,label,group,p_{LABELS[0]},p_{LABELS[1]}"
    (run / "held_out.csv").write_text("\n".join([header, *rows]) + "\n")
    noted = {}
    for temperature in ("fit", 20.0, 3.0):
        options = ExportOptions(operating=OperatingRequest(temperature=temperature))
        result = export_run(run, output=tmp_path / "net.onnx", options=options)
        noted[temperature] = [note for note in result.notes if "its bound" in note]
    assert result.spec.temperature == 3
    assert noted[20.0] == noted[3.0] == []
    (note,) = noted["fit"]
    assert note.startswith("The temperature ended on its bound, 20: on held-out images")
    assert note.endswith(".") and "train longer" in note


def test_a_network_that_calls_all_images_the_same_is_noted():
    pixels = np.zeros((4, SIDE, SIDE, 1), np.uint8)
    held = [Images(("a",) * 4, pixels, np.array(targets)) for targets in ([0, 1, 1, 0], [1, 1, 1, 1])]
    mixed, one = (ExportImages(part, part) for part in held)
    same = np.array([[0.2, 0.8], [0.3, 0.7], [0.4, 0.6], [0.1, 0.9]])
    (note,) = note_only_answer(same, toy_spec(), mixed)
    assert "calls all 4 validation images 'right'" in note
    assert note_only_answer(same, toy_spec(), one) == ()
    assert note_only_answer(same[:, ::-1] * [[1, 1], [1, 1], [0, 1], [1, 1]], toy_spec(), None) == ()
    assert note_only_answer(np.array([[0.2, 0.8], [0.7, 0.3]] * 2), toy_spec(), mixed) == ()


def test_each_form_is_printed_with_its_own_difference():
    rows = [
        Candidate(name, f, 100, 0.0, d / 2, d, 9, True, True, chosen=c)
        for name, f, d, c in (("float32", 0, 1e-7, False), ("u8s8 mse", 3, 0.02, True))
    ]
    result = convert_module.ExportResult(
        path=None,
        spec=toy_spec(precision="int8"),
        size=9,
        difference=1e-7,
        compared=105,
        candidates=tuple(rows),
    )
    (kind, own), (source, text) = describe_difference(result)
    assert (kind, source) == ("int8", "float32")
    assert "2.0e-02" in own
    assert "3 labels flip, over 100" in own
    assert "1.0e-07" in text
    assert "not written" in text
