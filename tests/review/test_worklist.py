"""Filters, orders and counts, beside Python's own sorting of what its csv module reads."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.review.conftest import make_cells, write_scores
from wetread.cli import run
from wetread.errors import SourceError, UsageError
from wetread.evaluate.reviews import Review, Verdict
from wetread.review.pictures import find_moved
from wetread.review.scores_table import Answer, Table
from wetread.review.worklist import Query, Worklist
from wetread.runtime.scoring.scores_file import ScoresFile

ANSWER = Answer(labels=("NORMAL", "PNEUMONIA"), positive="PNEUMONIA", threshold=0.5)


def open_table(path: Path, answer: Answer | None = None, reviews: dict[str, Review] | None = None) -> Table:
    table = Table(ScoresFile(str(path)))
    table.refresh(reviews or {}, answer)
    return table


def read_dicts(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def make_review(path: str, verdict: Verdict = Verdict.AGREE) -> Review:
    return Review(path=path, label="NORMAL", verdict=verdict, reader="Kim", time="", seconds=0)


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("table") / "scores.csv"
    names = [f"{'abc'[k % 3]}/person{k // 4}_x_{k:04}.png" for k in range(400)]
    scopes = [("inside", "outside", "")[k % 3] for k in range(400)]
    write_scores(path, names, more={"scope": scopes})
    with path.open("a") as file:
        file.write('broken.png,truncated,,,,,"cut, short",outside\n')
    return path


@given(
    label=st.sampled_from(["", "NORMAL", "PNEUMONIA", "none"]),
    status=st.sampled_from(["", "ok", "truncated"]),
    scope=st.sampled_from(["", "inside", "outside"]),
    span=st.one_of(st.none(), st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32))),
    text=st.sampled_from(["", "A/", "person1", "nowhere"]),
    sort=st.sampled_from(["probability", "doubt", "path", "file"]),
    down=st.booleans(),
)
def test_rows_are_those_that_plain_python_finds(scores, label, status, scope, span, text, sort, down):
    rows = read_dicts(scores)
    low, high = span or (None, None)

    def score(row: dict[str, str]) -> float | None:
        return float(np.float32(row["p_PNEUMONIA"])) if row["p_PNEUMONIA"] else None

    def passes(row: dict[str, str]) -> bool:
        value = score(row)
        return (
            (not label or row["label"] == label)
            and (not status or row["status"] == status)
            and (not scope or row["scope"] == scope)
            and (low is None or (value is not None and low <= value <= high))
            and text.lower() in row["path"].lower()
        )

    keys = {
        "probability": score,
        "doubt": lambda row: None if score(row) is None else abs(np.float32(score(row)) - np.float32(0.5)),
        "path": lambda row: row["path"],
        "file": lambda row: rows.index(row),
    }
    found = [number for number, row in enumerate(rows) if passes(row)]
    known = [n for n in found if keys[sort](rows[n]) is not None]
    # Rows that are alike keep the file's order, from either end.
    known = sorted(known, key=lambda n: keys[sort](rows[n]), reverse=down)
    expected = known + [n for n in found if keys[sort](rows[n]) is None]
    table = open_table(scores, ANSWER)
    query = Query(
        label=label, status=status, scope=scope, low=low, high=high, text=text, sort=sort, down=down
    )
    assert Worklist(table).list_rows(query).tolist() == expected


def test_next_unreviewed_goes_on_from_a_row_that_no_longer_passes(scores):
    table = open_table(scores, ANSWER)
    worklist = Worklist(table)
    query = Query(sort="probability", down=True, review="unreviewed")
    order = worklist.list_rows(query).tolist()
    table.mark(table.paths[order[5]], make_review(table.paths[order[5]]))
    assert worklist.find_next(query, order[5]) == order[6]
    assert worklist.find_next(query, order[6], step=-1) == order[4]
    assert worklist.find_next(query, order[-1]) is None
    assert worklist.find_next(query, None) == order[0]
    assert worklist.find_place(query, order[6]) == 5
    assert worklist.find_place(query, order[5]) == -1
    assert worklist.list_rows(Query(review="agree")).tolist() == [order[5]]


def test_counts_are_those_of_the_file(scores):
    table = open_table(scores, ANSWER, {"broken.png": make_review("broken.png", Verdict.UNUSABLE)})
    counts = Worklist(table).count()
    rows = read_dicts(scores)
    assert counts["rows"] == 401
    assert counts["statuses"] == {"ok": 400, "truncated": 1}
    assert counts["labels"] == {
        name: sum(row["label"] == name for row in rows) for name in {r["label"] for r in rows} - {""}
    }
    assert counts["reviewed"] == 1 and counts["verdicts"]["unusable"] == 1
    histogram = Worklist(table).draw_histogram(Query(label="PNEUMONIA", low=0.9, high=1.0))
    assert sum(histogram) == counts["labels"]["PNEUMONIA"]
    assert histogram[:25] == [0] * 25


def test_random_order_hangs_on_its_seed_and_keeps_while_rows_come(tmp_path):
    names = [f"{k}.png" for k in range(50)]
    write_scores(tmp_path / "a.csv", names)
    table = open_table(tmp_path / "a.csv")
    first = Worklist(table, seed=1).list_rows(Query(sort="random")).tolist()
    assert first != Worklist(table, seed=2).list_rows(Query(sort="random")).tolist()
    assert sorted(first) == list(range(50)) != first
    write_scores(tmp_path / "b.csv", names[:30])
    fewer = Worklist(open_table(tmp_path / "b.csv"), seed=1).list_rows(Query(sort="random")).tolist()
    assert fewer == [number for number in first if number < 30]


def test_more_than_two_labels_are_doubtful_where_two_are_near(tmp_path):
    path = tmp_path / "three.csv"
    path.write_text(
        "path,status,label,probability,p_a,p_b,p_c,error\n"
        "sure,ok,a,0.9,0.9,0.05,0.05,\nclose,ok,b,0.41,0.4,0.41,0.19,\nbroken,empty,,,,,,none\n"
    )
    table = open_table(path)
    assert table.answer == Answer(labels=("a", "b", "c"))
    assert Worklist(table).list_rows(Query(sort="doubt")).tolist() == [1, 0, 2]
    np.testing.assert_allclose(table.doubt[:2], [0.85, 0.01], rtol=1e-5)


@given(st.data())
def test_a_file_that_grows_anyhow_has_the_rows_of_the_whole(data):
    import tempfile

    names = data.draw(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8), max_size=8)
    )
    with tempfile.TemporaryDirectory() as folder:
        whole, growing = Path(folder, "whole.csv"), Path(folder, "growing.csv")
        write_scores(whole, names)
        content = whole.read_bytes()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
        growing.write_bytes(b"")
        table = Table(ScoresFile(str(growing)))
        for cut in [*cuts, len(content)]:
            growing.write_bytes(content[:cut])
            table.refresh({})
            assert table.paths == names[: len(table.paths)]
        assert table.paths == names
        assert table.generation <= 1
        rows = read_dicts(whole)
        assert [table.read_row(number) for number in range(len(names))] == rows


def test_the_three_formats_and_an_unfinished_one_are_the_same_rows(tmp_path, toy_model, image_folder):
    (image_folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    tables = []
    for suffix in ("csv", "jsonl", "parquet"):
        output = tmp_path / f"scores.{suffix}"
        assert run(["score", str(image_folder), "-m", str(toy_model), "-o", str(output), "--quiet"]) == 3
        tables.append(open_table(output))
    for table in tables:
        assert table.paths == tables[0].paths
        np.testing.assert_allclose(table.score, tables[0].score, rtol=1e-6)
        assert sorted(table.statuses.words) == ["ok", "truncated"]
    assert [t.read_row(0)["label"] for t in tables] == [tables[0].read_row(0)["label"]] * 3
    spool = tmp_path / "growing.parquet.part"
    spool.write_bytes((tmp_path / "scores.jsonl").read_bytes())
    growing = open_table(tmp_path / "growing.parquet")
    assert growing.paths == tables[0].paths and growing.file.is_growing


def test_a_run_that_ends_while_it_is_watched_goes_on_under_its_name(tmp_path):
    names = [f"{k}.png" for k in range(9)]
    part, whole = tmp_path / "scores.csv.part", tmp_path / "scores.csv"
    write_scores(part, names[:4])
    table = open_table(whole)
    assert table.paths == names[:4] and table.file.is_growing
    with part.open("a") as file:
        for name in names[4:]:
            file.write(",".join(make_cells(name, np.float32(0.25))) + "\n")
    part.rename(whole)
    assert table.refresh({}) and not table.refresh({})
    assert table.paths == names and table.generation == 1 and not table.file.is_growing


def test_a_file_that_was_replaced_begins_anew(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, ["a.png", "b.png"])
    table = open_table(path)
    write_scores(path, ["c.png", "d.png", "e.png"], seed=4)
    table.refresh({"d.png": make_review("d.png")})
    assert table.paths == ["c.png", "d.png", "e.png"] and table.generation == 2
    assert table.verdict.tolist() == [-1, 0, -1]


def test_a_path_that_is_listed_twice_is_reviewed_in_both_rows(tmp_path):
    write_scores(tmp_path / "scores.csv", ["a.png", "b.png", "a.png", "c.png"])
    table = open_table(tmp_path / "scores.csv")
    assert (table.find("a.png"), table.find("c.png"), table.find("d.png")) == ([0, 2], [3], [])
    table.mark("a.png", make_review("a.png"))
    assert table.verdict.tolist() == [0, -1, 0, -1]


def test_a_row_is_that_of_the_file_in_every_batch_and_with_a_separator_in_it(tmp_path):
    names = [f"{number:06}.png" for number in range(4_000)]
    notes = [f"{number}\x1f{number}" if number % 999 == 5 else f"ä{number}" for number in range(4_000)]
    write_scores(tmp_path / "scores.csv", names, more={"note": notes})
    table = open_table(tmp_path / "scores.csv")
    rows = read_dicts(tmp_path / "scores.csv")
    for number in (0, 5, 500, 1004, 2003, 3998, 3999):
        rows[number]["note"] = rows[number]["note"].replace("\x1f", " ")
        assert table.read_row(number) == rows[number]


def test_what_is_no_scores_file_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match="lacks path, status"):
        open_table(tmp_path / "other.csv")
    with pytest.raises(UsageError, match="ends in"):
        ScoresFile("scores.txt")
    with pytest.raises(SourceError, match="There is no file"):
        ScoresFile(str(tmp_path / "none.csv")).find()
    (tmp_path / "bad.jsonl").write_text(json.dumps({"path": "a"}) + "\n")
    with pytest.raises(SourceError, match="lacks status"):
        open_table(tmp_path / "bad.jsonl")
    with pytest.raises(UsageError, match="sort"):
        Query(sort="name")


def test_images_that_moved_are_found_by_what_all_names_share(tmp_path):
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / "now" / name).parent.mkdir(parents=True)
        (tmp_path / "now" / name).write_bytes(b"")
    names = ["/data/inbox/a/x.png", "/data/inbox/b/x.png", "/data/inbox/c/gone.png"]
    moved = find_moved(str(tmp_path / "now"), names)
    assert moved.find(names[1]) == str(tmp_path / "now" / "b" / "x.png")
    from wetread.errors import ImageError

    for outside in ("/data/other/a/x.png", "/data/inbox/../../etc/passwd", "/data/inbox"):
        with pytest.raises(ImageError):
            moved.find(outside)
    # Never so far that two names lead to one file.
    (tmp_path / "now" / "x.png").write_bytes(b"")
    with pytest.raises(SourceError, match="None of the files in the scores file"):
        find_moved(str(tmp_path / "elsewhere"), names)
