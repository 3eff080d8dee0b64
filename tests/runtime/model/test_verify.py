"""Does this machine compute what the author saw: every load, and `wetread verify`."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import build_model, toy_spec
from wetread.cli import run
from wetread.errors import ConfigError, MachineError, ModelError, ProviderError, TamperedModelError
from wetread.runtime.machine import Processor
from wetread.runtime.model import verify
from wetread.runtime.model.golden_inputs import EVEN_INTENSITIES, JPEG, draw_inputs
from wetread.runtime.model.spec import METADATA_KEY, Golden, ModelSpec, extract_spec, stamp_digest
from wetread.runtime.model.verify import check_machine, describe_processor, run_self_test, verify_model
from wetread.runtime.scoring.classifier import Classifier


def with_golden(**changes: object) -> bytes:
    """The toy model with a self-test that it passes, but for the changes."""
    data = build_model(toy_spec())
    golden = Golden(
        jpeg=JPEG,
        pixels="",
        seeds=(1, 2, 3),
        intensities=EVEN_INTENSITIES,
        exact=(),
        keras=(),
        exact_tolerance=1e-4,
        keras_tolerance=1e-3,
    )
    inputs, digest = draw_inputs(golden, toy_spec().pixels)
    answers = tuple(tuple(float(v) for v in row) for row in Classifier(data, device="cpu").classify(inputs))
    golden = dataclasses.replace(golden, pixels=digest, exact=answers, keras=answers)
    return restamp(data, dataclasses.replace(toy_spec(), golden=dataclasses.replace(golden, **changes)))


def restamp(data: bytes, spec: ModelSpec) -> bytes:
    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    return stamp_digest(model.SerializeToString())


@pytest.fixture(scope="module")
def good() -> bytes:
    return with_golden()


def shift(rows, by: float):
    return tuple(tuple(value + by for value in row) for row in rows)


def test_a_machine_that_agrees_loads_the_model_in_time(good):
    classifier = Classifier(good, device="cpu")
    result = run_self_test(classifier.spec, classifier.classify)
    assert result is not None and result.passed and result.same_pixels
    assert max(result.exact) <= 1e-6
    assert len(result.exact) == len(result.keras) == 4


def test_other_answers_are_refused_with_file_provider_processor_and_advice(good):
    golden = extract_spec(good, name="good").golden
    with pytest.raises(MachineError) as caught:
        Classifier(with_golden(exact=shift(golden.exact, 0.01)), device="cpu")
    message = str(caught.value)
    for word in (
        "the model:",
        "from its own exact answers by",
        "0.0001 is allowed",
        "0.01",
        "CPUExecutionProvider",
        "--device",
    ):
        assert word in message
    with pytest.raises(MachineError, match=r"differ from the Keras network's answers by .*most 0\.001 is"):
        Classifier(with_golden(keras=shift(golden.keras, 0.01)), device="cpu")
    int8 = dataclasses.replace(extract_spec(good, name="good"), precision="int8")
    off = dataclasses.replace(int8, golden=dataclasses.replace(golden, exact=shift(golden.exact, 0.01)))
    with pytest.raises(MachineError, match="Use the float32 file of this network"):
        Classifier(restamp(good, off), device="cpu")


def test_no_number_is_not_agreement(good):
    spec = extract_spec(good, name="good")
    with pytest.raises(MachineError):
        check_machine(spec, lambda images: np.full((4, 2), np.nan, np.float32), name="x", provider="y")


def test_a_provider_that_leaves_a_step_of_unlike_out_is_named(good):
    """OpenVINO gives five distances for each image in place of the largest."""
    spec = extract_spec(good, name="good")
    golden = dataclasses.replace(spec.golden, unlike=(1.0,) * 4, unlike_tolerance=0.01)
    spec = dataclasses.replace(spec, golden=golden)
    classify = Classifier(good, device="cpu").classify

    def check(shape: tuple[int, ...]) -> None:
        answer = np.ones(shape, np.float32)
        check_machine(spec, classify, name="x", provider="y", judge=lambda images: (classify(images), answer))

    check((4,))
    with pytest.raises(MachineError, match=r"'unlike' with y on .* is not one number for each image: .*cpu"):
        check((4, 5))
    with pytest.raises(ModelError, match="There must be 3 golden answers of 'unlike', not 4"):
        check((3,))


def test_other_pixels_are_refused():
    with pytest.raises(MachineError, match="image libraries decode or resize differently"):
        Classifier(with_golden(pixels="0" * 64), device="cpu")


def test_a_self_test_that_does_not_fit_its_model_is_refused():
    with pytest.raises(ModelError, match="golden answers must have the shape"):
        Classifier(with_golden(exact=((0.5, 0.5),)), device="cpu")


def test_verify_reports_every_check(good, tmp_path):
    path = tmp_path / "good.onnx"
    path.write_bytes(good)
    report = verify_model(path)
    assert [(check.name, check.passed) for check in report.checks] == [
        ("bytes", True),
        ("pixels", True),
        ("exact answers", True),
        ("Keras' answers", True),
    ]
    assert report.passed and report.precision == "float32" and report.layers == ()
    assert report.seconds < 5


def test_verify_goes_on_where_loading_stops(good, tmp_path):
    spec = extract_spec(good, name="good")
    off = dataclasses.replace(spec.golden, exact=shift(spec.golden.exact, 0.01), pixels="0" * 64)
    path = tmp_path / "off.onnx"
    data = bytearray(restamp(good, dataclasses.replace(spec, golden=off)))
    at = data.index(b"toy")  # the graph's name: it changes nothing but the digest
    data[at] ^= 1
    path.write_bytes(bytes(data))
    report = verify_model(path)
    assert not report.passed
    assert {check.name: check.passed for check in report.checks} == {
        "bytes": False,
        "pixels": False,
        "exact answers": False,
        "Keras' answers": True,
    }


def flip(data: bytes, text: bytes) -> bytes:
    """Change one bit of the first letter of a text in a file."""
    changed = bytearray(data)
    changed[data.index(text)] ^= 1
    return bytes(changed)


def test_verify_blames_the_file_where_changed_bytes_do_not_start(good, tmp_path, capsys):
    path = tmp_path / "changed.onnx"
    path.write_bytes(flip(good, b"Softmax"))  # an operation that there is none of
    report = verify_model(path)
    assert {check.name: check.passed for check in report.checks} == {"bytes": False, "answers": False}
    assert (report.provider, report.self_test, report.layers) == (None, None, ())
    assert run(["verify", str(path)]) == 1
    said = capsys.readouterr()
    assert "Copy it again" in said.out and "no session on" in said.out
    assert "pip install" not in said.out + said.err
    assert run(["verify", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["provider"] is None
    with pytest.raises(ConfigError, match="--device must be"):
        verify_model(path, device="abacus")


def test_verify_prints_json_where_the_machine_computes_no_numbers(good, tmp_path, capsys, monkeypatch):
    (tmp_path / "good.onnx").write_bytes(good)
    none = np.full((4, 2), np.nan, np.float32)
    monkeypatch.setattr(verify, "_compute_golden", lambda *_: (none, ()))
    assert run(["verify", str(tmp_path / "good.onnx"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
    assert found["self_test"]["exact"] == [None] * 4 and not found["passed"]


def test_verify_blames_the_machine_where_good_bytes_do_not_start(good, tmp_path):
    spec = extract_spec(good, name="good")
    (tmp_path / "other.onnx").write_bytes(restamp(flip(good, b"Softmax"), spec))
    with pytest.raises(ProviderError, match="cpu cannot be used"):
        verify_model(tmp_path / "other.onnx")


def test_verify_blames_the_bytes_where_the_spec_cannot_be_read(good):
    with pytest.raises(TamperedModelError, match="changed after it was exported"):
        verify_model(flip(good, b"threshold_rule"))
    newer = json.loads(extract_spec(good, name="good").to_json()) | {"version": 9}
    model = onnx.load_from_string(good)
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(newer)})
    with pytest.raises(ModelError, match="Use the wetread that wrote it"):
        verify_model(model.SerializeToString())


@pytest.mark.parametrize(
    ("kept", "reason"),
    [(0.1, "have no 'wetread.spec'"), (0.6, "it ends within its 'wetread.spec'")],
)
def test_a_cut_copy_is_to_be_copied_again(good, tmp_path, capsys, kept, reason):
    path = tmp_path / "cut.onnx"
    path.write_bytes(good[: int(len(good) * kept)])
    for command in (["verify", str(path)], ["inspect", str(path)], ["score", ".", "--model", str(path)]):
        assert run(command) == 1
        said = capsys.readouterr().err
        assert reason in said
        assert "opy it again" in said


def test_no_cut_near_the_end_is_blamed_on_anything_else(good):
    for left in range(1, 400):
        with pytest.raises(ModelError, match="[Cc]opy it again"):
            verify_model(good[:-left])


def test_a_model_without_a_self_test_loads_but_does_not_verify(toy_model):
    assert Classifier(toy_model, device="cpu").spec.golden is None
    report = verify_model(toy_model)
    assert [check.name for check in report.checks if not check.passed] == ["self-test"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_refused(good, data):
    at = data.draw(st.integers(0, len(good) * 8 - 1))
    changed = bytearray(good)
    changed[at // 8] ^= 1 << at % 8
    with pytest.raises(ModelError):
        Classifier(bytes(changed), device="cpu")


@pytest.mark.long
def test_every_flipped_bit_of_the_metadata_is_refused(good):
    """Where a flip could hide: the spec's own text, the digest in it, and what stands around them."""
    start = good.index(METADATA_KEY.encode()) - 8
    for at in range(start * 8, len(good) * 8):
        changed = bytearray(good)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(ModelError):
            Classifier(bytes(changed), device="cpu")


def test_a_flip_in_the_weights_is_tampering(good):
    changed = bytearray(good)
    changed[len(good) // 3] ^= 4
    with pytest.raises(TamperedModelError, match="changed after it was exported"):
        Classifier(bytes(changed), device="cpu")


def test_processors_are_described():
    old = Processor("x86_64", 2, ("SSE4.2", "AVX2"))
    new = Processor("x86_64", 2, ("AVX2", "AVX-512 VNNI"))
    assert describe_processor(old) == "x86_64 with SSE4.2, AVX2, no VNNI"
    assert describe_processor(new) == "x86_64 with AVX2, AVX-512 VNNI"
    assert describe_processor(Processor("arm64", 8, ())) == "arm64 with features unknown"


def test_the_spec_with_a_self_test_stays_small(good):
    assert len(json.dumps(json.loads(extract_spec(good, name="good").to_json()))) < 20_000
