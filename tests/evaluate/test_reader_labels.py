"""A model judged by readers: weights beside scikit-learn's, a chosen sample beside all of the images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, recall_score, roc_auc_score

from tests.evaluate.test_report import Numbers, leaves, look_up
from tests.models import build_model, toy_spec
from tests.review.conftest import write_scores
from wetread.cli import run
from wetread.errors import DatasetError, SourceError, UsageError
from wetread.evaluate.reader_labels import ReadersOptions, judge_by_readers
from wetread.evaluate.reviews import Review, Verdict, encode_reviews

ROWS = 4_000


@pytest.fixture(scope="module")
def site(tmp_path_factory, toy_model) -> Path:
    """4,000 scores, what is true of each (likelier where the score is higher), and the model."""
    folder = tmp_path_factory.mktemp("site")
    write_scores(folder / "scores.csv", [f"person{k // 2}_x_{k}.png" for k in range(ROWS)])
    scores = np.random.default_rng(0).random(ROWS).astype(np.float32)
    truth = np.random.default_rng(1).random(ROWS) < scores**2
    np.savez(folder / "truth.npz", scores=scores, truth=truth)
    (folder / "model.onnx").write_bytes(Path(toy_model).read_bytes())
    return folder


def review(site: Path, name: str, chosen: np.ndarray, *, unsure: int = 0, blind: bool = True) -> Path:
    """Write what a reader who knows the truth says of some rows; of the first ones nothing."""
    truth = np.load(site / "truth.npz")["truth"]
    reviews = [
        Review(
            path=f"person{k // 2}_x_{k}.png",
            label="" if place < unsure else ("NORMAL", "PNEUMONIA")[int(truth[k])],
            verdict=Verdict.UNSURE if place < unsure else Verdict.LABELLED,
            reader="Kim",
            time="",
            seconds=1,
            blind=blind,
        )
        for place, k in enumerate(chosen.tolist())
    ]
    (site / name).write_bytes(encode_reviews(reviews))
    return site / name


def judge(site: Path, reviews: Path, **more: object):
    options = {"model": str(site / "model.onnx"), "resamples": 0, **more}
    return judge_by_readers(ReadersOptions(reviews=str(reviews), scores=str(site / "scores.csv"), **options))


def test_weighted_values_are_scikit_learns(site):
    scores = np.load(site / "truth.npz")["scores"]
    doubtful = np.argsort(np.abs(scores - 0.5))[:900]
    others = np.random.default_rng(2).choice(ROWS, 300, replace=False)
    found = judge(site, review(site, "a.csv", np.unique(np.concatenate([doubtful, others]))))
    rows = np.array([(float(row[3]), row[4] == "PNEUMONIA", float(row[6])) for row in found.rows])
    score, true, weight = rows[:, 0], rows[:, 1] == 1, rows[:, 2]
    assert weight.sum() == pytest.approx(ROWS, rel=1e-4)
    chosen = score >= 0.5
    metrics = found.metrics
    kinds = {"sample_weight": weight}
    assert metrics.accuracy == pytest.approx(accuracy_score(true, chosen, **kinds), rel=1e-4)
    assert metrics.sensitivity == pytest.approx(recall_score(true, chosen, **kinds), rel=1e-4)
    assert metrics.auc == pytest.approx(roc_auc_score(true, score, **kinds), rel=1e-4)
    assert metrics.average_precision == pytest.approx(average_precision_score(true, score, **kinds), rel=1e-4)
    assert found.plain.auc == pytest.approx(roc_auc_score(true, score), rel=1e-6)
    assert sum(map(sum, metrics.confusion)) == metrics.images == len(rows)


def test_weights_undo_the_choice_of_doubtful_images(site):
    """Readers who look at doubtful images see a worse model than it is; weighted, it is the whole site's."""
    whole = judge(site, review(site, "all.csv", np.arange(ROWS)))
    assert "All 4,000 scored images" in whole.notes[0]
    assert whole.metrics == whole.plain
    scores = np.load(site / "truth.npz")["scores"]
    some = np.concatenate(
        [np.argsort(np.abs(scores - 0.5))[:1200], np.random.default_rng(3).choice(ROWS, 500, replace=False)]
    )
    found = judge(site, review(site, "some.csv", np.unique(some)))
    assert abs(found.plain.auc - whole.metrics.auc) > 0.05
    assert abs(found.metrics.auc - whole.metrics.auc) < 0.02
    assert abs(found.metrics.accuracy - whole.metrics.accuracy) < 0.02


def test_intervals_by_patient_hold_the_value_and_are_wider_than_none(site):
    found = judge(site, review(site, "b.csv", np.arange(0, ROWS, 5)), resamples=200)
    low, high = found.metrics.intervals["auc"]
    assert low < found.metrics.auc < high and high - low < 0.2


def test_what_nobody_looked_at_is_said(site):
    scores = np.load(site / "truth.npz")["scores"]
    found = judge(site, review(site, "c.csv", np.flatnonzero(scores < 0.5), unsure=7, blind=False))
    notes = " ".join(found.notes)
    assert "from 0.5 to 0.6, 0.6 to 0.7" in notes and "say nothing about them" in notes
    assert "7 images were marked unsure" in notes and "with the model's answer in view" in notes
    assert found.verdicts["unsure"] == 7
    assert [s.labelled for s in found.strata if s.low >= 0.5] == [0] * 5


@pytest.mark.parametrize(("status", "kept"), [("ok", 1), ("truncated", 0)])
def test_of_a_path_with_several_rows_the_last_one_counts(toy_model, tmp_path, status, kept):
    """As `watch` writes them where a file was replaced."""
    rows = [
        "b.png,ok,NORMAL,0.9,0.9,0.1,",
        "a.png,truncated,,,,,It is cut.",
        "a.png,ok,NORMAL,0.8,0.8,0.2,",
        "a.png,ok,PNEUMONIA,0.7,0.3,0.7," if status == "ok" else f"a.png,{status},,,,,It is cut.",
    ]
    head = "path,status,label,probability,p_NORMAL,p_PNEUMONIA,error"
    (tmp_path / "scores.csv").write_text("\n".join([head, *rows, ""]))
    (tmp_path / "reviews.csv").write_text("path,label\na.png,PNEUMONIA\nb.png,NORMAL\n")
    found = judge_by_readers(
        ReadersOptions(
            reviews=str(tmp_path / "reviews.csv"),
            scores=str(tmp_path / "scores.csv"),
            model=str(toy_model),
            resamples=0,
        )
    )
    assert (found.scored, found.unscored, found.metrics.images) == (1 + kept, 1 - kept, 1 + kept)
    if kept:
        assert found.metrics.accuracy == 1.0


def test_files_that_do_not_fit_are_refused(site, tmp_path):
    (tmp_path / "other.csv").write_text("path,label\nnowhere.png,NORMAL\n")
    with pytest.raises(DatasetError, match=r"1 reviews are of images that are not in .*'nowhere.png'"):
        judge(site, tmp_path / "other.csv")
    (tmp_path / "label.csv").write_text("path,label\nperson0_x_0.png,OTHER\n")
    with pytest.raises(DatasetError, match="labels that the model lacks: OTHER"):
        judge(site, tmp_path / "label.csv")
    (tmp_path / "none.csv").write_text("path,label\nperson0_x_0.png,\n")
    with pytest.raises(DatasetError, match="No review has both a label and"):
        judge(site, tmp_path / "none.csv")
    with pytest.raises(UsageError, match="--model"):
        judge(site, tmp_path / "none.csv", model=None)


@pytest.mark.parametrize("value", ["", "nan", "1,5", "-0.1", "1.5"])
def test_a_probability_that_is_none_is_refused(toy_model, tmp_path, value):
    """Scores that a spreadsheet has saved."""
    (tmp_path / "scores.csv").write_text(
        "path,status,label,probability,p_NORMAL,p_PNEUMONIA,error\n"
        f'a.png,ok,NORMAL,0.7,0.7,0.3,\nb.png,ok,NORMAL,0.7,"{value}",0.3,\n'
    )
    (tmp_path / "reviews.csv").write_text("path,label\na.png,NORMAL\nb.png,NORMAL\n")
    files = {"reviews": str(tmp_path / "reviews.csv"), "scores": str(tmp_path / "scores.csv")}
    with pytest.raises(SourceError, match="row of 'b.png' must have probabilities from 0 to 1"):
        judge_by_readers(ReadersOptions(**files, model=str(toy_model), resamples=0))


def test_the_command_takes_the_model_from_the_record(site, tmp_path, toy_model, image_folder, capsys):
    """No model file is needed: the record beside the scores knows labels and threshold."""
    (image_folder / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    output = str(tmp_path / "scores.csv")
    assert run(["score", str(image_folder), "-m", str(toy_model), "-o", output, "--quiet"]) == 3
    paths = [line.split(",")[0] for line in Path(output).read_text().splitlines()[1:]]
    text = "".join(f"{path},{('NORMAL', 'PNEUMONIA')[k % 2]}\n" for k, path in enumerate(paths))
    (tmp_path / "reviews.csv").write_text("path,label\n" + text)
    arguments = ["evaluate", "--reviews", str(tmp_path / "reviews.csv"), "--scores", output]
    assert run([*arguments, "--output", str(tmp_path / "report"), "--resamples", "50"]) == 3
    said = capsys.readouterr().out
    assert "12 images of 12 groups" in said and "1 reviewed images" in said and "weighted" in said
    told = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert told["metrics"]["images"] == 12 and told["reviews"]["unscored"] == 1
    assert len((tmp_path / "report" / "predictions.csv").read_text().splitlines()) == 13
    assert said.endswith(f"written: {tmp_path / 'report'}/metrics.json, predictions.csv, report.html\n")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    for key, value, text in Numbers(page).found:
        expected = look_up(told, key)
        assert json.loads(value) == expected, key
        assert (
            text == "not defined"
            if expected is None
            else float(text.replace(",", "")) == pytest.approx(expected, abs=0.5e-4 + 1e-12)
        )
    known = leaves(told["metrics"], "metrics") - {"metrics.positive"}
    known |= {f"strata.{k}.{name}" for k in range(len(told["strata"])) for name in ("scored", "labelled")}
    assert known <= {key for key, _, _ in Numbers(page).found}
    assert "http" not in page.replace("http-equiv", "") and "<img" not in page
    (tmp_path / "other.onnx").write_bytes(build_model(toy_spec(), seed=4))
    for more in (["--model", str(tmp_path / "other.onnx")], ["data"], ["--split", "val"], ["--overwrite"]):
        assert run([*arguments, *more]) == 2, more
    assert run(["evaluate", "--reviews", "r.csv"]) == 2
    assert run(["evaluate"]) == 2
