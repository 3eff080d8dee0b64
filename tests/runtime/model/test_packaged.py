"""The model that comes with wetread: small, whole, of this machine's arithmetic, and of no patient."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from benchmarks.make_model import make_plan
from tests.conftest import draw_image
from tests.test_cli import wetread
from wetread.errors import ModelError
from wetread.evaluate.metrics import measure
from wetread.runtime.model import packaged
from wetread.runtime.model.description import inspect_model
from wetread.runtime.model.packaged import choose_model, find_packaged_model
from wetread.runtime.model.verify import verify_model
from wetread.runtime.scoring.classifier import Classifier

MODELS = Path(str(resources.files("wetread") / "models"))
CARD = MODELS / "README.md"


def test_the_packaged_model_is_small_and_passes_every_check():
    report = verify_model(find_packaged_model(), device="cpu")
    assert report.passed
    spec, size = inspect_model(find_packaged_model())
    assert size < 1_000_000
    assert spec.labels == ("NORMAL", "PNEUMONIA")
    assert spec.positive == "PNEUMONIA"
    assert spec.precision == "int8"
    assert spec.golden is not None


@pytest.mark.parametrize("file", sorted(MODELS.glob("*.onnx")), ids=lambda file: file.name)
def test_it_holds_no_patient_and_no_place(file):
    """The data set has person1_bacteria_1.jpeg and IM-0115-0001.jpeg; a picture says JFIF, Exif or PNG."""
    data = file.read_bytes()
    assert re.findall(
        rb"person\d|IM-\d|\.jpe?g|\.png|JFIF|Exif|\x89PNG|/home/|/tmp/|/root/|\.keras", data
    ) == [
        b".jpg"  # golden-1.jpg, the drawn picture that wetread.runtime holds
    ]
    assert os.fsencode(Path(__file__).parents[3]) not in data


def test_a_model_that_is_named_is_taken_before_it(toy_model):
    assert choose_model(toy_model) == str(toy_model)
    assert choose_model(None) == find_packaged_model()


def test_an_installation_without_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(packaged, "PACKAGED_MODEL", "absent.onnx")
    with pytest.raises(ModelError, match="Install wetread again, or name a model"):
        find_packaged_model()


def test_score_without_a_model_uses_it_and_says_so(image_folder):
    done = wetread("score", image_folder)
    assert done.returncode == 0
    assert b"packaged chest-xray.onnx" in done.stderr
    assert b"not a medical device" in done.stderr
    named = wetread("score", image_folder, "--model", find_packaged_model())
    assert done.stdout == named.stdout
    assert b"packaged" not in named.stderr.splitlines()[0]
    assert wetread("score", image_folder, "--quiet").stderr == b""


def test_the_other_commands_use_it_too(tmp_path):
    (tmp_path / "one.jpg").write_bytes(draw_image(1))
    explained = wetread("explain", tmp_path / "one.jpg", "--format", "json")
    assert json.loads(explained.stdout)["image"] == str(tmp_path / "one.jpg")
    assert b"this machine may use it" in wetread("verify").stdout
    assert b"NORMAL, PNEUMONIA" in wetread("inspect").stdout


@pytest.mark.long  # doctor imports every package
def test_doctor_names_it():
    findings = json.loads(wetread("doctor", "--json").stdout)["findings"]
    (model,) = [finding["found"] for finding in findings if finding["topic"] == "model"]
    assert model.startswith(find_packaged_model())


def test_where_a_bundle_installed_it_the_bundles_model_reads_and_no_other(tmp_path, monkeypatch, toy_model):
    (tmp_path / "bundle.json").write_text("{}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    with pytest.raises(ModelError, match="The bundle's model is missing"):
        choose_model(None)
    (tmp_path / "model.onnx").write_bytes(toy_model.read_bytes())
    assert choose_model(None) == str(tmp_path / "model.onnx")
    assert packaged.say_packaged().endswith(f"using the bundle's, {tmp_path / 'model.onnx'}")
    assert choose_model("other.onnx") == "other.onnx"
    (tmp_path / "env").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(tmp_path / "env")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "elsewhere" / "link"))
    assert choose_model(None) == str(tmp_path / "model.onnx")


def read_card() -> dict[str, float]:
    """The figures of the int8 file that its card states."""
    rows = re.findall(r"^\| ([\w ]+) \| (\d\.\d{4}) \| ", CARD.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: float(value) for name, value in rows}


def test_the_card_names_the_files_as_they_are():
    text = CARD.read_text(encoding="utf-8")
    for file in MODELS.glob("*.onnx"):
        spec, size = inspect_model(file)
        assert f"| `{file.name}` | {spec.precision} | {size:,} | `{spec.digest[:16]}` |" in text
        assert f"{spec.threshold:.4f}" in text
    assert "CC BY 4.0" in text
    assert "not a medical device" in text


def test_the_cards_figures_are_what_the_model_does(xray_data, tmp_path):
    """All of the images held out, in ten seconds or so: no sample could tell four digits."""
    plan = make_plan(xray_data / "chest-xray-224", tmp_path)
    held_out = np.flatnonzero(plan.folds < 0)
    classifier = Classifier(find_packaged_model(), device="cpu")
    pixels = plan.data.pixels[plan.data.rows[held_out]]
    parts = [classifier.classify(pixels[at : at + 64]) for at in range(0, len(pixels), 64)]
    found = measure(np.concatenate(parts), plan.data.targets[held_out], classifier.spec)
    names = ("accuracy", "balanced accuracy", "sensitivity", "specificity", "F1", "AUC")
    card = read_card()
    for name in names:
        assert getattr(found, name.lower().replace(" ", "_")) == pytest.approx(card[name], abs=6e-5), name
