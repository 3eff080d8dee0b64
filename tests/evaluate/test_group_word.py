from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import draw_image
from tests.evaluate.test_evaluation import draw_folders, write_run
from tests.models import build_model, toy_spec
from tests.review.conftest import write_scores
from wetread.cli import run
from wetread.evaluate.evaluation import EvaluateOptions, evaluate
from wetread.evaluate.group_word import find_word
from wetread.evaluate.patients import DEFAULT_GROUP_REGEX
from wetread.evaluate.report import render_report
from wetread.evaluate.reviews import Review, Verdict, encode_reviews
from wetread.evaluate.runs import read_run
from wetread.runtime.scoring.classifier import Classifier

LEAVES = [f"leaf/plot{k // 2}_{k}.jpg" for k in range(6)]
PEOPLE = ["NORMAL/person1_1.jpeg"]


@pytest.mark.parametrize(
    ("pattern", "names", "training", "word"),
    [
        (DEFAULT_GROUP_REGEX, LEAVES, {}, "group"),
        (DEFAULT_GROUP_REGEX, PEOPLE, {}, "patient"),  # the public set of chest X-rays
        (DEFAULT_GROUP_REGEX, LEAVES, {"architecture": "edge"}, "patient"),  # `train` says what is none
        (r"plot\d+", LEAVES, {"architecture": "edge", "group": "group"}, "group"),
        (r"plot\d+", LEAVES, {"architecture": "edge", "group": "plant"}, "plant"),
        (r"(?P<field_plot>plot\d+)", LEAVES, {"architecture": "edge", "group": "plant"}, "field plot"),
        (r"(?P<patient>plot\d+)", LEAVES, {}, "patient"),
        (r"(?P<_plot_>plot\d+)", LEAVES, {}, "plot"),
        (r"(?P<_>plot\d+)", LEAVES, {}, "group"),  # a name that says nothing
    ],
)
def test_the_word_for_a_group(pattern, names, training, word) -> None:
    spec = replace(toy_spec(), training=training)
    assert find_word(pattern, names, spec=spec) == word


@pytest.mark.parametrize(
    ("config", "word"),
    [({}, "patient"), ({"preset": "xray"}, "patient"), ({"preset": "photo"}, "group")],
)
def test_a_run_says_what_kind_its_images_are(tmp_path, config, word) -> None:
    folder = write_run(tmp_path / "run", {})
    (folder / "config.json").write_text(json.dumps({"group_regex": r"plot\d+", **config}))
    assert find_word(r"plot\d+", LEAVES, spec=toy_spec(), run=read_run(str(folder))) == word


@pytest.fixture
def leaves(tmp_path: Path) -> tuple[Path, Path]:
    """Photographs of leaves, and a model of another project."""
    data = draw_folders(tmp_path / "data", images=8, labels=("healthy", "rust", "spot"))
    for path in list(data.rglob("*.jpg")):
        path.rename(path.with_name(path.name.replace("person", "plot")))
    model = tmp_path / "model.onnx"
    model.write_bytes(build_model(toy_spec(labels=("healthy", "rust", "spot"), color="rgb")))
    return data, model


def test_medicine_stays_out_of_other_data(leaves, tmp_path, capsys) -> None:
    data, model = leaves
    (data / "rust" / "cut.jpg").write_bytes(draw_image(1)[:300])
    output = str(tmp_path / "out")
    more = ["--compare", str(model), "--resamples", "20", "--output", output]
    assert run(["evaluate", str(data), "--model", str(model), *more]) == 3
    printed = capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    shown = page.replace("metrics.patients", "")  # the keys of metrics.json are the same for all data
    assert "patient" not in printed.lower() and "patient" not in shown.lower()
    assert "24 images of 24 groups" in printed and "95% by group" in printed
    assert "No group was found in the names of 25 of 25 images: each counts as one group." in printed
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert told["bootstrap"]["by"] == "group" and told["metrics"]["patients"] == 24
    header = (tmp_path / "out" / "predictions.csv").read_text().splitlines()[0]
    assert header.endswith(",truth,patient")


def test_the_expressions_own_word_is_used(leaves) -> None:
    data, model = leaves
    options = EvaluateOptions(data=str(data), group_regex=r"(?P<plant>plot\d+)_", resamples=10)
    found = evaluate(Classifier(model, device="cpu"), options)
    assert (found.word, found.metrics.patients) == ("plant", 12)
    assert "95% interval by plant" in render_report(found)
    assert "24 images of 12 plants" not in found.notes


def test_the_plural_of_the_word_is_english(leaves, tmp_path, capsys) -> None:
    data, model = leaves
    output = ["--output", str(tmp_path / "out"), "--resamples", "10"]
    words = ["--group-regex", r"(?P<biopsy>plot\d+)_"]
    assert run(["evaluate", str(data), "--model", str(model), *words, *output]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "24 images of 12 biopsies" in capsys.readouterr().out
    assert "10 samples of biopsies" in page and "biopsys" not in page


def test_agreement_of_readers_of_other_images(tmp_path, capsys) -> None:
    for name in ("kim", "lee"):
        reviews = [
            Review(
                path=path,
                label="rust" if (k + (name == "lee") * (k == 0)) % 2 else "healthy",
                verdict=Verdict.LABELLED,
                reader=name,
                time="",
                seconds=1,
                blind=True,
            )
            for k, path in enumerate(LEAVES)
        ]
        (tmp_path / f"{name}.csv").write_bytes(encode_reviews(reviews))
    files = [str(tmp_path / f"{name}.csv") for name in ("kim", "lee")]
    assert run(["agreement", *files, "--resamples", "10"]) == 0
    assert "95% by group" in capsys.readouterr().out
    assert run(["agreement", *files, "--resamples", "10", "--group-regex", r"(?P<plot>plot\d+)"]) == 0
    assert "95% by plot" in capsys.readouterr().out


def test_reviews_of_other_images(tmp_path, capsys) -> None:
    write_scores(tmp_path / "scores.csv", LEAVES)
    model = tmp_path / "model.onnx"
    model.write_bytes(build_model(toy_spec()))
    reviews = [
        Review(
            path=path, label="NORMAL", verdict=Verdict.LABELLED, reader="Kim", time="", seconds=1, blind=True
        )
        for path in LEAVES
    ]
    (tmp_path / "reviews.csv").write_bytes(encode_reviews(reviews))
    arguments = ["--scores", str(tmp_path / "scores.csv"), "--model", str(model), "--resamples", "10"]
    assert run(["evaluate", "--reviews", str(tmp_path / "reviews.csv"), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "6 images of 6 groups" in printed and "95% by group" in printed and "patient" not in printed
