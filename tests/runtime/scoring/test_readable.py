"""Lines for people, compared with the rows of `score` on the same files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import draw_image
from tests.models import build_model, toy_spec
from tests.scoped import build_scoped, draw_disc, encode
from wetread.cli import run
from wetread.demo.blocked_imports import run_without_training
from wetread.errors import SourceError, Status, UsageError
from wetread.runtime.model.spec import Band
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.readable import (
    describe_prediction,
    predict_images,
    rank_labels,
    write_percent,
)
from wetread.runtime.scoring.rows import Prediction
from wetread.runtime.wording import make_printable

TWO = toy_spec()
FIVE = toy_spec(labels=("a", "b", "c", "d", "e"))


def make(label: str, *values: float, **optional) -> Prediction:
    labels = TWO.labels if len(values) == 2 else FIVE.labels
    return Prediction("x.png", Status.OK, label, values[labels.index(label)], values, optional=optional)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "50.0%"), (1.0, "100.0%"), (0.99999, ">99.9%"), (0.0, "0.0%"), (1e-9, "<0.1%"), (0.0004, "<0.1%")],
)
def test_a_percentage_never_claims_certainty(value: float, text: str) -> None:
    assert write_percent(value) == text


def test_two_labels_are_both_named_and_the_threshold_where_it_decided() -> None:
    assert describe_prediction(make("NORMAL", 0.75, 0.25), TWO) == "x.png: NORMAL 75.0%, PNEUMONIA 25.0%"
    low = replace(TWO, threshold=0.2)
    assert describe_prediction(make("PNEUMONIA", 0.75, 0.25), low) == (
        "x.png: PNEUMONIA 25.0%, NORMAL 75.0% (the threshold of PNEUMONIA is 20.0%)"
    )
    high = replace(TWO, threshold=0.9)
    assert describe_prediction(make("NORMAL", 0.2, 0.8), high) == (
        "x.png: NORMAL 20.0%, PNEUMONIA 80.0% (the threshold of PNEUMONIA is 90.0%)"
    )


def test_the_best_labels_come_in_order() -> None:
    found = make("d", 0.1, 0.25, 0.05, 0.4, 0.2)
    assert rank_labels(found, FIVE, top=3) == [("d", 0.4), ("b", 0.25), ("e", 0.2)]
    assert len(rank_labels(found, FIVE, top=9)) == 5
    assert describe_prediction(found, FIVE, top=1) == "x.png: d 40.0%"


def test_scope_and_doubt_are_said_where_the_model_has_them() -> None:
    banded = replace(TWO, uncertain=Band(low=0.4, high=0.6, rule="test"))
    found = make("NORMAL", 0.55, 0.45, uncertain=True, scope="outside", scope_reason="looks turned")
    assert describe_prediction(found, banded).endswith(
        "; uncertain: close to the threshold; out of scope: looks turned"
    )
    assert describe_prediction(make("NORMAL", 0.9, 0.1, scope="inside"), TWO).endswith("10.0%; in scope")


def test_a_name_cannot_break_the_line_or_move_the_cursor() -> None:
    odd = Prediction("a\nb\x1b[2J\udcff é 中.png", Status.EMPTY, error="It is empty.")
    assert describe_prediction(odd, TWO) == "a\\nb\\x1b[2J\\udcff é 中.png: empty. It is empty."
    assert make_printable("plain é") == "plain é"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("good.jpg").write_bytes(draw_image(3))
    Path("cut.jpg").write_bytes(draw_image(1)[:900])
    Path("other.png").write_bytes(draw_image(4, suffix=".png"))
    return ["good.jpg", "cut.jpg", "other.png"]


def test_lines_have_the_answers_of_score(files: list[str], toy_model: Path, capfd) -> None:
    """The same files by `score`: the same labels, statuses, numbers and exit code."""
    assert run(["predict", *files, "--model", str(toy_model)]) == 3
    lines = capfd.readouterr().out.splitlines()
    assert run(["predict", *files, "--model", str(toy_model), "--json", "--top", "1"]) == 3
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert run(["score", *files, "--model", str(toy_model), "--output", "s.jsonl", "--quiet"]) == 3
    scored = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert [{key: value for key, value in row.items() if key != "top"} for row in rows] == scored
    assert rows[0]["top"] == [{"label": rows[0]["label"], "probability": rows[0]["probability"]}]
    assert rows[1]["top"] == []
    assert [line.split(": ")[0] for line in lines] == files
    assert lines[1] == f"cut.jpg: truncated. {scored[1]['error']}"
    for line, row in ((lines[0], scored[0]), (lines[2], scored[2])):
        shown = {label: float(value) for label, value in re.findall(r"(\w+) ([\d.]+)%", line)}
        assert shown == pytest.approx({label: 100 * row[f"p_{label}"] for label in TWO.labels}, abs=0.0501)
        assert line.split()[1] == row["label"]
    assert run(["predict", "good.jpg", "*.png", "--model", str(toy_model), "--quiet"]) == 0


def test_a_model_of_many_labels_and_one_with_a_scope(files: list[str], capfd) -> None:
    Path("five.onnx").write_bytes(build_model(FIVE))
    assert run(["predict", "good.jpg", "--model", "five.onnx"]) == 0
    assert capfd.readouterr().out.count("%") == 3
    Path("scoped.onnx").write_bytes(build_scoped())
    Path("disc.png").write_bytes(encode(draw_disc(7)))
    Path("turned.png").write_bytes(encode(draw_disc(7)[::-1, ::-1]))
    assert run(["predict", "disc.png", "turned.png", "--model", "scoped.onnx", "--json"]) == 0
    scopes = [json.loads(line)["scope"] for line in capfd.readouterr().out.splitlines()]
    assert run(["predict", "disc.png", "turned.png", "--model", "scoped.onnx"]) == 0
    inside, outside = capfd.readouterr().out.splitlines()
    assert scopes == ["inside", "outside"]
    assert inside.endswith("; in scope") and "; out of scope: unlike the training images: " in outside


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (["good.jpg", "folder 1"], 2, "Score it with: wetread score 'folder 1'"),
        (["good.jpg", "gs://bucket/x.jpg"], 2, "Score it with: wetread score gs://bucket/x.jpg"),
        (["good.jpg", "missing.jpg"], 1, "'missing.jpg' cannot be read"),
        (["*.gif"], 1, "There is no image: no name in '.' matches '*.gif'; "),
        (["good.jpg", "--top", "0"], 2, "--top"),
    ],
)
def test_what_is_no_image_file_is_refused(
    files: list[str], toy_model: Path, capfd, names: list[str], code: int, said: str
) -> None:
    Path("folder 1").mkdir()
    assert run(["predict", *names, "--model", str(toy_model), "--quiet"]) == code
    printed = capfd.readouterr()
    assert (said in printed.err, printed.err.count("\n"), printed.out) == (True, 1, "")
    assert "--allow-empty" not in printed.err  # an option of score


def test_the_library_raises_what_the_command_prints(toy_model: Path, tmp_path: Path) -> None:
    classifier = Classifier(toy_model)
    with pytest.raises(UsageError, match="is a folder"):
        predict_images(classifier, [str(tmp_path)])
    with pytest.raises(SourceError):
        predict_images(classifier, [str(tmp_path / "none.jpg")])


def test_it_works_without_tensorflow(files: list[str], toy_model: Path) -> None:
    done = run_without_training(["predict", "good.jpg", "--model", str(toy_model)])
    assert (done.returncode, done.stdout.count("%")) == (0, 2), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_not_utf8(files: list[str], toy_model: Path) -> None:
    Path("good.jpg").rename("b\udcff.jpg")
    command = [sys.executable, "-m", "wetread", "predict", "b\udcff.jpg", "--model", toy_model, "--quiet"]
    for more, text in (([], b"b\\udcff.jpg: "), (["--json"], b'{"path": "b\\udcff.jpg", ')):
        done = subprocess.run([*command, *more], capture_output=True, check=True)
        assert done.stdout.startswith(text)
    assert json.loads(done.stdout)["path"] == "b\udcff.jpg"
