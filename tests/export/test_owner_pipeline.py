"""Beside the owner's own way: ten mistakes that a comparison with Keras alone cannot see."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.export.networks import KERAS_WARNING
from tests.export.owned import NEAREST, SIDE, Owned, add_class_names, train_owned
from tests.pictures import LABELS, PNG_KINDS, draw_scene, fill_folder
from wetread.cli import run as run_command
from wetread.errors import ConfigError, ExportError
from wetread.export import assert_parity, measure_parity
from wetread.export.expectations import Expectations, weigh_labels
from wetread.export.owner_pipeline import is_own_code, read_answer
from wetread.export.parity_certificate import make_certificate
from wetread.export.report import describe_report
from wetread.export.user_function import import_function
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec

pytestmark = [
    pytest.mark.filterwarnings(KERAS_WARNING),
    pytest.mark.filterwarnings("ignore:Palette images with Transparency"),
]


@pytest.fixture(scope="module")
def owned(tmp_path_factory) -> Owned:
    return train_owned(tmp_path_factory.mktemp("owned"))


@pytest.fixture(scope="module")
def gray(tmp_path_factory) -> Owned:
    return train_owned(tmp_path_factory.mktemp("gray"), gray=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fresh")
    fill_folder(folder, count=48, first=50_000)
    return folder


@pytest.fixture(scope="module")
def right(owned) -> Path:
    return owned.export("right")


MISTAKES = {
    "scale": {"scale": (1.0,)},
    "offset": {"offset": (-0.5,)},
    "labels": {"labels": LABELS[::-1]},
    "softmax twice": {"head": "logits"},
}
OTHER_PIXELS = {
    "rotated": {"orientation": "exif"},
    "16 bits": {"depth": "significant-bits"},
    "bgr": {"color": "bgr"},
    "kernel": {"kernel": "pillow-bilinear"},
    "crop": {"resize": "crop"},
}


def test_the_right_file_holds_beside_its_owner(owned, right, folder):
    report = assert_parity(owned.file, [right], folder, reference=owned.answer)
    assert report.passed and report.owner.gap.max_difference <= 1e-5
    assert report.models[0].beside_owner.max_difference <= 1e-5
    assert report.trusted == ()  # folders that are named by labels say the order of those
    assert "answer, the owner's way, Keras on the file's terms is off by" in describe_report(report)


@pytest.mark.parametrize("mistake", [*MISTAKES, *OTHER_PIXELS])
def test_a_mistake_fails_beside_the_owner_and_passes_without(owned, folder, mistake):
    if mistake in MISTAKES:
        wrong = owned.export(f"wrong-{mistake}", **MISTAKES[mistake])
    else:
        wrong = owned.export_other_pixels(f"wrong-{mistake}", **OTHER_PIXELS[mistake])
    report = measure_parity(owned.file, models=[wrong], images=folder, reference=owned.answer)
    assert not report.passed
    assert re.search("DOES NOT HOLD|NOT AS EXPECTED", describe_report(report))
    assert report.models[0].max_difference <= 1e-4 and not report.models[0].flips  # Keras alone agrees


def test_gray_that_is_weighed_otherwise_fails(gray, folder):
    """The tenth: an owner who averages the colors, and Keras' own gray."""

    def average(path: str) -> np.ndarray:
        with Image.open(path) as picture:
            levels = np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST))
        return gray.predict(levels.mean(axis=2, keepdims=True, dtype=np.float32))

    model = gray.export("gray")
    assert assert_parity(gray.file, [model], folder, reference=gray.answer).passed
    with pytest.raises(AssertionError, match="average, the owner's way.*DOES NOT HOLD"):
        assert_parity(gray.file, [model], folder, reference=average)


@pytest.mark.parametrize("field", ["resize", "orientation", "kernel", "alpha"])
def test_keras_own_loader_finds_other_pixels_whatever_the_network_says_of_them(owned, folder, field):
    others = {"resize": "crop", "orientation": "exif", "kernel": "pillow-bicubic", "alpha": "over-black"}
    wrong = owned.export_other_pixels("loader", **{field: others[field]})
    report = measure_parity(owned.file, models=[wrong], images=folder, reference=NEAREST)
    assert not report.passed and report.owner.other_count and report.owner.mean_off > 1
    assert "OTHER PIXELS" in describe_report(report)


def test_keras_own_preprocessing_finds_another_order_of_colors(owned, folder):
    changes = {"preprocessing": "tf", "scale": None}
    right, wrong = owned.export("tf", **changes), owned.export("tf-bgr", color="bgr", **changes)
    reference = f"{NEAREST},tf"
    assert measure_parity(owned.file, models=[right], images=folder, reference=reference).passed
    report = measure_parity(owned.file, models=[wrong], images=folder, reference=reference)
    assert not report.passed and not report.owner.other_count and not report.owner.gap.passed


def test_labels_in_another_order_than_their_folders_are_seen_behind_any_reference(owned, folder):
    wrong = owned.export("wrong-labels", **MISTAKES["labels"])
    report = measure_parity(owned.file, models=[wrong], images=folder, reference=NEAREST)
    assert not report.passed and "another order" in report.contradictions[0]


def test_what_is_expected_is_compared_with_the_file(owned, right, folder):
    known = {
        "expected_labels": LABELS,
        "expected_scale": 1 / 255,
        "expected_resize": "keras:load_img,nearest",
    }
    assert assert_parity(owned.file, right, folder, **known).trusted == (
        "the offset of the pixels",
        "the order of colors, rgb",
    )
    for name, other, words in (
        ("expected_labels", LABELS[::-1], "expected the labels right, left, and the file has left, right"),
        ("expected_scale", 1.0, "expected the scale 1, and the file has 0.00392156863"),
        ("expected_resize", "crop", "expected pixels resized by crop, and the file has stretch"),
        ("expected_resize", "bilinear", "and the file has the kernel pillow-nearest"),
        ("expected_resize", "keras:dataset", "and the file has orientation exif-of-tiff, gray rec601-of-rgb"),
    ):
        with pytest.raises(AssertionError, match=f"NOT AS EXPECTED: .*{words}"):
            assert_parity(owned.file, right, folder, **(known | {name: other}))
    for name, other in (("expected_resize", "sharply"), ("expected_scale", (1.0, 2.0))):
        with pytest.raises(ConfigError):
            measure_parity(owned.file, models=[right], images=folder, **{name: other})


def test_without_its_owner_a_passing_check_says_what_is_on_trust(owned, folder):
    wrong = owned.export_other_pixels("wrong-rotated", **OTHER_PIXELS["rotated"])
    report = measure_parity(owned.file, models=[wrong], images=folder)
    assert report.passed and len(report.trusted) == 3
    (line,) = [line for line in describe_report(report).splitlines() if "on trust" in line]
    for words in (
        "32 x 32 rgb, stretch, orientation exif, kernel pillow-nearest",
        "the order of colors, rgb",
    ):
        assert words in line
    swapped = owned.export("wrong-labels", **MISTAKES["labels"])
    report = measure_parity(owned.file, models=[swapped], images=folder)
    assert report.passed and "another order" in report.doubts[0] and "doubt: " in describe_report(report)


def test_a_run_leaves_nothing_on_trust(toy, float32_model):
    report = measure_parity(toy.run, models=[float32_model], images=toy.data)
    assert report.passed and report.trusted == () and report.owner is None


def test_labels_of_a_function_are_its_own(owned, right, folder):
    turned = add_class_names(owned.answer, *LABELS[::-1])
    with pytest.raises(AssertionError, match="the reference has the labels right, left"):
        assert_parity(owned.file, [right], folder, reference=turned)
    named = lambda path: dict(zip(LABELS, owned.answer(path), strict=True))  # noqa: E731
    swapped = owned.export("swapped", labels=LABELS[::-1])
    assert assert_parity(owned.file, [right], folder, reference=named).passed
    with pytest.raises(AssertionError, match="DOES NOT HOLD"):
        assert_parity(owned.file, [swapped], folder, reference=named)


def test_answers_are_read_as_people_give_them():
    spec = ModelSpec(labels=("a", "b"))
    for value in (0.25, [0.75, 0.25], np.array([[0.75, 0.25]]), {"b": 0.25, "a": 0.75}, np.array([[0.25]])):
        assert read_answer(value, spec, name="x").tolist() == [0.75, 0.25]
    for value, words in (
        ([1.0, 2.0], "sum to 1"),
        ([-1.0, 2.0], "are they logits"),
        ([0.1, 0.2, 0.7], "2 probabilities"),
        (float("nan"), "2 probabilities"),
        ({"a": 1.0, "c": 0.0}, "must name the labels a, b; for .* it names a, c"),
    ):
        with pytest.raises(ExportError, match=words):
            read_answer(value, spec, name="x")


def test_an_owner_who_does_not_answer_is_an_error_that_names_the_file(owned, right, folder):
    def fail(path: str) -> float:
        raise ValueError("no such layer")

    with pytest.raises(ExportError, match=r"answer for .*/left/.*ValueError: no such layer"):
        measure_parity(owned.file, models=[right], images=folder, reference=fail)
    with pytest.raises(ExportError, match="keras:load_img, keras:generator, .*, or module:function"):
        measure_parity(owned.file, models=[right], images=folder, reference="load_img")
    with pytest.raises(ConfigError, match="At most one of each"):
        measure_parity(owned.file, models=[right], images=folder, reference="keras:load_img,sharp")
    with pytest.raises(ExportError, match="needs a color model"):
        one = train_free_gray(owned)
        measure_parity(owned.file, models=[one], images=folder, reference="keras:load_img,caffe")


def train_free_gray(owned: Owned) -> Path:
    """A gray model file, whichever network it is of: the reference is looked at first."""
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((SIDE, SIDE, 1)), layers.Flatten(), layers.Dense(2)])
    model.save(owned.folder / "tiny.keras")
    other = Owned(owned.folder / "tiny.keras", model, owned.folder, gray=True)
    return other.export("tiny")


def test_the_labels_order_is_weighed_by_folders():
    spec = ModelSpec(labels=("a", "b", "c"))
    rows = np.eye(3)[[0, 1, 2] * 10]
    names = [f"{label}/{index}.png" for index in range(10) for label in "abc"]
    assert weigh_labels(names, rows, spec).agrees
    turned = weigh_labels(names, rows[:, [1, 2, 0]], spec)
    assert turned.better is not None and not turned.agrees
    assert (turned.own, turned.others, turned.images) == (0, 30, 30)
    assert weigh_labels(names[:6], rows[:6, [1, 2, 0]], spec).better is None  # too few to say
    assert weigh_labels([f"x/{name[2:]}" for name in names], rows, spec).agrees is False
    assert weigh_labels(["a/x.png"] * 30, rows, spec).images == 0


def test_many_labels_are_weighed_by_exchanges():
    labels = tuple("abcdefgh")
    names = [f"{label}/{index}.png" for index in range(6) for label in labels]
    rows = np.eye(8)[[1, 0, 2, 3, 4, 5, 6, 7] * 6]
    assert weigh_labels(names, rows, ModelSpec(labels=labels)).better == tuple("bacdefgh")


def test_the_kernel_that_is_expected_may_be_any_librarys():
    recipe = PixelRecipe(kernel="tensorflow-lanczos3-antialias", scaled_decoding=0)
    spec = ModelSpec(labels=("a", "b"), pixels=recipe)
    assert list(Expectations(resize="lanczos").contradict(spec)) == []
    assert list(Expectations(resize="area").contradict(ModelSpec(labels=("a", "b")))) == []


def test_a_function_is_found_by_name_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_own_way.py").write_text("def answer(path):\n    return 0.5\n\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    assert import_function("my_own_way:answer")("x") == 0.5
    assert is_own_code("my_own_way:answer") and not is_own_code("keras:load_img,nearest")
    for name, words in (
        ("my_own_way:nothing", "nothing"),
        ("nobodys:answer", "nobodys"),
        ("my_own_way:number", "must be a function"),
    ):
        with pytest.raises(ExportError, match=words):
            import_function(name)


def test_the_command_asks_the_owner_and_says_what_is_on_trust(owned, right, folder, tmp_path, capsys):
    words = ["parity", str(owned.file), str(right), "--images", str(folder)]
    written = tmp_path / "report.json"
    assert run_command([*words, "--reference", NEAREST, "--json", str(written)]) == 0
    out = capsys.readouterr().out
    assert "beside keras:load_img,nearest, the owner's way" in out and "its pixels are off by 0.00" in out
    assert "on trust, as nothing else says it: pixel x 0.00392157 + 0" in out
    values = json.loads(written.read_text())
    assert values["owner"]["passed"] and values["models"][0]["beside_owner"]["passed"]
    assert run_command([*words, "--reference", "keras:dataset", "--expected-resize", "fit"]) == 1
    out = capsys.readouterr().out
    assert "OTHER PIXELS" in out and "NOT AS EXPECTED: expected pixels resized by fit" in out
    assert run_command([*words, "--expected-scale", "a"]) == 2


def test_a_certificate_says_what_was_taken_on_trust(owned, right, folder):
    report = measure_parity(owned.file, models=[right], images=folder, reference=NEAREST)
    statement = make_certificate(report)["statement"]
    assert statement["owner"]["name"] == NEAREST and "other_pixels" not in statement["owner"]
    assert statement["taken_on_trust"] == list(report.trusted) != []
    assert statement["contradictions"] == statement["doubts"] == []


def test_a_file_that_wetread_refuses_and_keras_does_not_is_a_failure_not_a_silence(gray, tmp_path):
    """16-bit gray goes to the network as it is: up to 65,535."""
    picture, _ = draw_scene(3, sides=(50, 60))
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(PNG_KINDS["rgb"](picture, index))
    (tmp_path / "deep.png").write_bytes(PNG_KINDS["gray-16"](picture, 1))
    report = measure_parity(gray.file, models=[gray.export("deep")], images=tmp_path, reference=gray.answer)
    assert report.images == 3 and [Path(name).name for name in report.failures] == ["deep.png"]
