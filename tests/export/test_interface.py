"""`wetread.export` and `wetread.parity`: keywords in, objects out, nothing printed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import wetread
from tests.export.networks import KERAS_WARNING, LABELS
from wetread.errors import ConfigError, ExportError, UsageError
from wetread.export.forms.network_files import NetworkSource
from wetread.export.keywords import ExportKeywords, ParityKeywords

pytestmark = pytest.mark.filterwarnings(KERAS_WARNING)


def test_a_run_and_its_network_alone_become_files_that_agree_with_keras(toy, tmp_path, capsys):
    said, counted = [], []
    made = wetread.export(toy.run, output=tmp_path / "run.onnx", on_progress=said.append)
    assert made.path == tmp_path / "run.onnx" and made.path.stat().st_size == made.size
    assert (made.candidates, made.report, made.signature) == ((), None, None)
    assert said[0] == "reading images" and said[-1] == "making the self-test"
    bare = wetread.export(
        keras=toy.run / "model.keras",
        labels=list(LABELS),
        scale=np.float32(1 / 255),
        output=tmp_path / "k.onnx",
    )
    assert bare.spec.scale == (float(np.float32(1 / 255)),) and bare.spec.labels == LABELS
    report = wetread.parity(
        toy.run,
        made.path,
        images=[toy.data / LABELS[0], toy.data / LABELS[1]],
        json=tmp_path / "report.json",
        certificate=tmp_path / "certificate.txt",
        on_progress=counted.append,
    )
    assert report.passed and report.images == 320 and counted == [256, 320]
    assert report.reference == str(toy.run)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report.to_dict()))
    assert "statement.passed" in (tmp_path / "certificate.txt").read_text()
    assert capsys.readouterr() == ("", "")


def test_labels_beside_a_network_are_taken_and_told(toy, tmp_path):
    shutil.copyfile(toy.run / "model.keras", tmp_path / "net.keras")
    asked = ExportKeywords(keras=tmp_path / "net.keras", scale=1.0)
    with pytest.raises(UsageError, match=r"--keras needs --labels .* no labels.txt"):
        asked.describe(asked.choose())
    (tmp_path / "labels.txt").write_text("0 left\n1 right\n")
    said: list[str] = []
    asked = ExportKeywords(keras=tmp_path / "net.keras", scale=1.0, on_progress=said.append)
    assert asked.describe(asked.choose()).labels == LABELS
    assert said == [f"labels, in this order, from {tmp_path / 'labels.txt'}: left, right"]


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({}, UsageError, "either a RUN or --keras"),
        ({"run": "run", "keras": "k"}, UsageError, "either a RUN or --keras"),
        ({"run": "run", "scale": 1.0}, UsageError, "cannot be used with a RUN"),
        ({"run": "run", "threshold": 0.4}, UsageError, "cannot be used with a RUN"),
        ({"run": "run", "output_name": "a"}, UsageError, "a RUN needs none of them"),
        ({"keras": "k", "temperature": 2}, UsageError, "cannot be used with --keras"),
        ({"keras": "k", "labels": "a,b"}, ConfigError, "must be a list of labels, not the one text 'a,b'"),
        ({"keras": "k", "scale": "wide"}, ConfigError, "scale must be a number, or one for each channel"),
        ({"keras": "k", "std": [1, [2, 3]]}, ConfigError, "std must be a number"),
    ],
)
def test_keywords_that_contradict_one_another_are_refused(keywords, error, message):
    with pytest.raises(error, match=message):
        wetread.export(**keywords)


def test_keywords_become_the_options_of_the_export(tmp_path):
    asked = ExportKeywords(run="run", temperature=2, max_flips=0.1, precision="int8", calibration=tmp_path)
    options = asked.choose()
    assert not options.exact_integers
    assert ExportKeywords(run="run", precision="int8", exact_integers=True).choose().exact_integers
    with pytest.raises(ConfigError, match="--exact-integers is for int8"):
        ExportKeywords(run="run", exact_integers=True).choose()
    assert (options.operating.temperature, options.gate.max_flips, options.precision) == (2.0, 0.1, "int8")
    with pytest.raises(ConfigError, match="temperature must be above 0, or 'fit', not 'warm'"):
        ExportKeywords(run="run", temperature="warm").choose()
    asked = ExportKeywords(keras="k", labels=["a", "b"], size=32, mean=[0.1, 0.2, 0.3], std=2, custom="m")
    network = asked.describe(options)
    assert (network.size, network.mean, network.std, network.offset) == (
        (32, 32),
        (0.1, 0.2, 0.3),
        (2.0,),
        (0.0,),
    )
    assert asked.name("k") == NetworkSource(path="k", custom="m")


def test_places_and_labels_of_a_comparison_are_checked_before_the_work(tmp_path):
    for wrong in ({"json": tmp_path / "none" / "r.json"}, {"certificate": tmp_path / "c.pdf"}):
        with pytest.raises(ExportError):
            wetread.parity("run", "m.onnx", images="DATA", **wrong)
    with pytest.raises(ConfigError, match="expected_labels must be a list of labels"):
        ParityKeywords("run", "m.onnx", images="DATA", expected_labels="a,b")
    assert ParityKeywords("run", "m.onnx", images="DATA", expected_scale=2).expected_scale == (2.0,)


def test_a_network_with_what_belongs_to_it_is_compared(toy, tmp_path):
    """`output_name` makes a source of the path: the one output has the number 0."""
    made = wetread.export(
        keras=toy.run / "model.keras", labels=LABELS, scale=1 / 255, output=tmp_path / "k.onnx"
    )
    images = sorted(Path(toy.data, LABELS[0]).iterdir())[:5]
    report = wetread.parity(toy.run / "model.keras", [made.path], images=images, output_name="0")
    assert report.passed and report.images == 5 and report.reference == str(toy.run / "model.keras")
