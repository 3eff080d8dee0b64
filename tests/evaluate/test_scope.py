"""evaluate with and without what is outside; explain says it on the picture."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from tests.models import build_model, toy_spec
from tests.scoped import build_scoped, draw_disc, encode
from wetread.cli import run
from wetread.evaluate.evaluation import EvaluateOptions, evaluate
from wetread.runtime.explain import explain_image
from wetread.runtime.explanation_picture import describe, draw_explanation, make_caption
from wetread.runtime.scoring.classifier import Classifier


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed in range(40):
        label = ("NORMAL", "PNEUMONIA")[seed % 2]
        (folder / label).mkdir(exist_ok=True)
        picture = draw_disc(500 + seed)
        (folder / label / f"p{seed}.png").write_bytes(encode(np.invert(picture) if seed < 6 else picture))
    return folder


def test_metrics_stand_with_and_without_what_is_outside(data):
    found = evaluate(Classifier(build_scoped(), device="cpu"), EvaluateOptions(data=str(data), resamples=0))
    told = found.to_dict()["scope"]
    assert told["inside"] + told["outside"] == found.metrics.images == 40
    assert 6 <= told["outside"] <= 8
    assert told["reasons"]["unlike the training images: looks a negative"] == 6
    assert told["metrics_inside"]["images"] == told["inside"]
    kept = [row for row in found.scores.predictions if row.scope == "inside"]
    right = sum(row.label == ("NORMAL", "PNEUMONIA")[int(row.path.split("/p")[-1][:-4]) % 2] for row in kept)
    assert told["metrics_inside"]["accuracy"] == pytest.approx(right / len(kept))
    assert any(f"of the {told['inside']} inside, accuracy is" in note for note in found.notes)


def test_a_model_without_a_scope_says_nothing_of_it(data):
    model = Classifier(build_model(toy_spec()), device="cpu")
    found = evaluate(model, EvaluateOptions(data=str(data), resamples=0))
    assert found.to_dict()["scope"] is None
    assert not any("scope" in note for note in found.notes)


def test_the_predictions_name_what_is_outside(data, tmp_path):
    (tmp_path / "m.onnx").write_bytes(build_scoped())
    command = ["evaluate", str(data), "--model", str(tmp_path / "m.onnx"), "--output", str(tmp_path / "out")]
    assert run(command) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert sum(row["scope"] == "outside" for row in rows) >= 6
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["scope"]["outside"] >= 6
    assert "outside the model&#x27;s scope" in (tmp_path / "out" / "report.html").read_text()


def test_an_explanation_says_it_on_the_picture_and_in_json():
    model = Classifier(build_scoped(), device="cpu")
    inside = explain_image(model, encode(draw_disc(900)))
    outside = explain_image(model, encode(np.invert(draw_disc(900))))
    assert (inside.to_dict()["scope"], inside.to_dict()["scope_reason"]) == ("inside", None)
    assert outside.to_dict()["scope"] == "outside"
    assert outside.to_dict()["scope_reason"] == "unlike the training images: looks a negative"
    caption = make_caption(model.spec, model="m", digest=model.digest, identity="1.2.3")
    assert "Inside the model's scope." in describe(inside, caption)
    (warning,) = [text for text in describe(outside, caption) if "scope" in text]
    assert warning.startswith("Outside the model's scope: unlike the training images: looks a negative.")
    # One line more in the color of warnings than the notice alone.
    reds = [
        np.flatnonzero((drawn[..., 0].astype(int) - drawn[..., 2] > 100).any(axis=1))
        for drawn in (draw_explanation(inside, caption)[560:], draw_explanation(outside, caption)[560:])
    ]
    assert len(reds[1]) > 1.5 * len(reds[0])


def test_an_explanation_without_a_scope_is_as_it_was():
    found = explain_image(Classifier(build_model(toy_spec()), device="cpu"), encode(draw_disc(900)))
    assert "scope" not in found.to_dict() and found.outside is None
