"""Kappas beside scikit-learn's and Fleiss' own example."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from wetread.cli import run
from wetread.errors import DatasetError, UsageError
from wetread.evaluate.agreement import AgreementOptions, compare_readers, measure_cohen, measure_fleiss
from wetread.evaluate.reviews import Review, Verdict, encode_reviews, read_reviews

# Fleiss (1971), table 1: 14 raters put 10 subjects into 5 categories; kappa is 0.210.
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


def make(labels: dict[str, str], reader: str, *, blind: bool = True) -> list[Review]:
    """Reviews of paths; 'unsure' is a verdict, everything else a label."""
    return [
        Review(
            path=path,
            label="" if label == "unsure" else label,
            verdict=Verdict.UNSURE if label == "unsure" else Verdict.AGREE,
            reader=reader,
            time="",
            seconds=0,
            blind=blind,
        )
        for path, label in labels.items()
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_cohens_kappa_is_scikit_learns(pairs):
    codes = np.array(pairs)
    if len(set(codes.ravel())) == 1:
        assert math.isnan(measure_cohen(codes, np.ones(len(codes)))[1])
        return
    agreement, value = measure_cohen(codes, np.ones(len(codes)))
    assert value == pytest.approx(cohen_kappa_score(codes[:, 0], codes[:, 1]), abs=1e-9)
    assert agreement == pytest.approx((codes[:, 0] == codes[:, 1]).mean())
    weights = np.arange(1.0, len(codes) + 1)
    weighted = cohen_kappa_score(codes[:, 0], codes[:, 1], sample_weight=weights)
    assert measure_cohen(codes, weights)[1] == pytest.approx(weighted, abs=1e-9)


def test_fleiss_kappa_is_that_of_his_own_table():
    codes = np.array([np.repeat(np.arange(5), row) for row in FLEISS])
    agreement, value = measure_fleiss(codes, np.ones(10))
    assert value == pytest.approx(0.210, abs=5e-4)
    assert agreement == pytest.approx(0.378, abs=5e-4)
    twice = measure_fleiss(np.repeat(codes, 2, axis=0), np.ones(20))
    assert twice == pytest.approx(measure_fleiss(codes, np.full(10, 2.0)))


def test_readers_are_compared_on_what_they_all_labelled():
    names = [f"p{k}" for k in range(6)]
    kim = dict(zip(names, ["A", "A", "B", "B", "unsure", "A"], strict=True))
    lee = dict(zip(names[:5], ["A", "B", "B", "B", "A"], strict=True))
    roe = dict(zip(names, ["A", "A", "B", "A", "A", "A"], strict=True))
    files = {"kim.csv": make(kim, "Kim"), "lee.csv": make(lee, "Lee"), "roe.csv": make(roe, "Roe")}
    found = compare_readers(files, AgreementOptions(resamples=50))
    assert found.readers == ("Kim", "Lee", "Roe") and found.labelled == (5, 5, 6) and found.common == 4
    assert [kappa.images for kappa in found.cohen] == [4, 5, 5] and found.fleiss.images == 4
    kim_lee = cohen_kappa_score(["A", "A", "B", "B"], ["A", "B", "B", "B"])
    assert found.cohen[0].value == pytest.approx(kim_lee)
    low, high = found.cohen[0].interval
    assert low <= found.cohen[0].value <= high
    assert [(d.path, d.said) for d in found.differences] == [
        ("p1", ("A", "B", "A")),
        ("p3", ("B", "B", "A")),
        ("p4", ("unsure", "A", "A")),
    ]
    assert found.notes == ()


def test_patients_are_resampled_whole():
    """Twenty pictures of one patient are no more evidence than one."""
    many = {f"person1_x_{k}.png": "AB"[k % 2] for k in range(20)} | {"person2_x_0.png": "A"}
    other = dict.fromkeys(many, "A")
    other["person1_x_1.png"] = "B"
    found = compare_readers(
        {"a": make(many, "a"), "b": make(other, "b")}, AgreementOptions(resamples=400)
    ).cohen[0]
    single = {f"q{k}": label for k, label in enumerate(many.values())}
    singles = compare_readers(
        {"a": make(single, "a"), "b": make(dict(zip(single, other.values(), strict=True)), "b")},
        AgreementOptions(resamples=400),
    ).cohen[0]
    assert found.value == singles.value
    assert len({round(end, 6) for end in found.interval}) <= 2 and found.interval != singles.interval


def test_what_cannot_be_compared_is_said():
    with pytest.raises(UsageError, match="compares two files or more, not 1"):
        compare_readers({"a": make({"x": "A"}, "a")}, AgreementOptions())
    with pytest.raises(DatasetError, match="Give reviews of the same images"):
        compare_readers({"a": make({"x": "A"}, "a"), "b": make({"y": "A"}, "b")}, AgreementOptions())


def test_the_command_prints_and_writes(tmp_path, capsys):
    kim = {f"person{k}_x_0.png": "NORMAL" if k % 3 else "PNEUMONIA" for k in range(30)}
    lee = {path: "PNEUMONIA" if k < 4 else label for k, (path, label) in enumerate(kim.items())}
    for name, labels in (("kim", kim), ("lee", lee)):
        (tmp_path / f"{name}.csv").write_bytes(encode_reviews(make(labels, name, blind=name == "kim")))
    files = [str(tmp_path / "kim.csv"), str(tmp_path / "lee.csv")]
    assert run(["agreement", *files, "--output", str(tmp_path / "d.csv"), "--resamples", "100"]) == 0
    said = capsys.readouterr().out
    value = cohen_kappa_score(list(kim.values()), list(lee.values()))
    assert f"{value:.4f}" in said and "Cohen" in said and "Fleiss" not in said
    assert "note: lee saw the model's answers" in said
    lines = (tmp_path / "d.csv").read_text().splitlines()
    assert lines == ["path,kim,lee", "person1_x_0.png,NORMAL,PNEUMONIA", "person2_x_0.png,NORMAL,PNEUMONIA"]
    assert run(["agreement", *files, "--output", str(tmp_path / "d.csv")]) == 1
    assert run(["agreement", files[0], files[0]]) == 2


def test_a_reviews_file_of_others_needs_path_and_label(tmp_path):
    (tmp_path / "a.csv").write_text("path,label\nx.png,A\ny.png,\n")
    found = read_reviews(str(tmp_path / "a.csv"))
    assert [(r.path, r.label, r.verdict) for r in found] == [
        ("x.png", "A", "labelled"),
        ("y.png", "", "unsure"),
    ]
    from wetread.errors import SourceError

    for text, words in (
        ("path\nx\n", "label"),
        ("path,label\nx,A\nx,B\n", "two rows for 'x'"),
        ("path,label,verdict\nx,A,unsure\n", "line 2"),
        ("path,label,verdict\nx,A,maybe\n", "line 2"),
        ("path,label,seconds\nx,A,inf\n", "line 2"),
    ):
        (tmp_path / "b.csv").write_text(text)
        with pytest.raises(SourceError, match=words):
            read_reviews(str(tmp_path / "b.csv"))
    with pytest.raises(SourceError, match="No such file"):
        read_reviews(str(tmp_path / "none.csv"))
