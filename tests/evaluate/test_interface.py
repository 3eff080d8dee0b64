"""`wetread.evaluate` and `wetread.evaluate_by_readers`: keywords in, objects out, nothing printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import wetread
from tests.evaluate.test_evaluation import draw_folders, judge, sides_of, write_run
from tests.review.conftest import write_scores
from wetread.errors import DatasetError, ModelError, OutputError, UsageError
from wetread.evaluate.reader_labels import ReadersOptions, judge_by_readers
from wetread.evaluate.reviews import Review, Verdict, encode_reviews
from wetread.runtime.scoring.classifier import Classifier


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_folders(tmp_path / "data")


def test_a_file_is_judged_as_its_classifier_is(toy_model, data, tmp_path, capfd):
    counted: list[tuple[int, int]] = []
    found = wetread.evaluate(
        data, model=toy_model, resamples=20, on_progress=lambda done, count: counted.append((done, count))
    )
    expected = judge(Classifier(toy_model, device="cpu"), data)
    assert found.to_dict() == expected.to_dict() and found.comparison is None
    assert counted[-1] == (24, 24)
    run = write_run(tmp_path / "run", sides_of(data))
    part = wetread.evaluate(data, model=toy_model, run=run, split="val", resamples=0, compare=toy_model)
    assert part.metrics.images == 6 and part.comparison is not None
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ModelError):
        wetread.evaluate(data, model=tmp_path / "none.onnx")
    with pytest.raises(DatasetError):
        wetread.evaluate(data / "NORMAL", model=toy_model)


def test_a_report_is_written_and_never_over_another(toy_model, data, tmp_path):
    keywords = {"model": toy_model, "resamples": 0, "output": tmp_path / "report"}
    found = wetread.evaluate(data, **keywords)
    written = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert written == ["metrics.json", "predictions.csv", "report.html"]
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == found.to_dict()
    with pytest.raises(OutputError, match="already holds metrics.json"):
        wetread.evaluate(data, **keywords)
    assert wetread.evaluate(data, **keywords, overwrite=True).to_dict() == found.to_dict()
    for alone in ("thumbnails", "overwrite"):
        with pytest.raises(UsageError, match="need --output DIR"):
            wetread.evaluate(data, model=toy_model, **{alone: True})


def test_readers_judge_scores(toy_model, tmp_path, capfd):
    names = [f"person{k}_x_{k}.png" for k in range(60)]
    write_scores(tmp_path / "scores.csv", names)
    labels = [("NORMAL", "PNEUMONIA")[int(value)] for value in np.random.default_rng(3).integers(0, 2, 60)]
    reviews = [
        Review(path=n, label=one, verdict=Verdict.LABELLED, reader="Kim", time="", seconds=1, blind=True)
        for n, one in zip(names, labels, strict=True)
    ]
    (tmp_path / "reviews.csv").write_bytes(encode_reviews(reviews))
    keywords = {"scores": tmp_path / "scores.csv", "model": toy_model, "resamples": 0}
    found = wetread.evaluate_by_readers(tmp_path / "reviews.csv", **keywords, output=tmp_path / "report")
    options = ReadersOptions(
        reviews=str(tmp_path / "reviews.csv"),
        scores=str(tmp_path / "scores.csv"),
        model=str(toy_model),
        resamples=0,
    )
    assert found == judge_by_readers(options) and found.metrics.images == 60
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "metrics.json",
        "predictions.csv",
        "report.html",
    ]
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UsageError, match="--overwrite needs --output DIR"):
        wetread.evaluate_by_readers(tmp_path / "reviews.csv", **keywords, overwrite=True)
