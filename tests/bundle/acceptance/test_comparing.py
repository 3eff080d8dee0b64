from __future__ import annotations

from pathlib import Path

import pytest

from wetread.bundle.acceptance.comparing import Rows, compare_rows, read_rows
from wetread.errors import UsageError

HEAD = "path,status,label,probability,p_a,p_b,error\n"
ROWS = "{0}/x/1.jpg,ok,a,0.75,0.75,0.25,\n{0}/x/y/2.jpg,empty,,,,,no bytes\n"


def write(path: Path, text: str) -> Rows:
    path.write_text(HEAD + text)
    return read_rows(path)


def test_the_same_folder_under_two_names(tmp_path):
    here = write(tmp_path / "a.csv", ROWS.format("/srv/local"))
    there = write(tmp_path / "b.csv", ROWS.format("D:\\pictures").replace("/", "\\"))
    assert here.keys() == there.keys() == {"1.jpg", "y/2.jpg"}
    found = compare_rows(here, there)
    assert found.is_same
    assert "2 rows with the same status and label; the probabilities differ by 0" in found.text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.75,0.75,0.25", "0.7505,0.7505,0.2495", ""),
        ("0.75,0.75,0.25", "0.752,0.752,0.248", "differ by 0.002"),
        ("ok,a,0.75,0.75", "ok,b,0.75,0.75", "0 have another status, 1 label"),
        ("empty,", "truncated,", "1 have another status, 0 label"),
        ("y/2.jpg", "y/3.jpg", "1 files have no row here, and 1 have none there"),
        ("0.75,0.75,0.25", ",,", "differ by inf"),
        ("0.75,0.75,0.25", "0.75,nan,0.25", "differ by inf"),
        ("0.75,0.75,0.25", "0.75,0.75,nan", "differ by inf"),
        ("0.75,0.75,0.25", "nan,0.75,0.25", "differ by inf"),
        ("0.75,0.75,0.25", "inf,0.75,0.25", "differ by inf"),
        ("empty,,,,", "empty,,,0.5,", "differ by inf"),
    ],
)
def test_differences_are_found_and_name_no_picture(tmp_path, old, new, words):
    expected = write(tmp_path / "a.csv", ROWS.format("p"))
    found = compare_rows(expected, write(tmp_path / "b.csv", ROWS.format("p").replace(old, new)))
    assert found.is_same == (not words)
    assert words in found.text
    assert "jpg" not in found.text


def test_one_file_and_files_without_a_folder(tmp_path):
    assert read_rows_of(tmp_path, "a.jpg,ok,a,1,1,0,\n") == {"a.jpg"}
    assert read_rows_of(tmp_path, "in/a.jpg,ok,a,1,1,0,\n") == {"a.jpg"}
    assert read_rows_of(tmp_path, "a.jpg,ok,a,1,1,0,\nin/b.jpg,ok,a,1,1,0,\n") == {"a.jpg", "in/b.jpg"}


def read_rows_of(folder: Path, text: str) -> set[str]:
    return set(write(folder / "rows.csv", text))


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_no_number_on_both_sides_is_a_difference(tmp_path, value):
    rows = write(tmp_path / "a.csv", ROWS.format("p").replace("0.75,0.75,0.25", f"0.75,{value},0.25"))
    assert not compare_rows(rows, rows).is_same


def test_rows_without_a_score_compare_nothing(tmp_path):
    for text in ("", "2.jpg,empty,,,,,no bytes\n"):
        rows = write(tmp_path / "a.csv", text)
        found = compare_rows(rows, rows)
        assert (found.is_same, "nothing was compared" in found.text) == (False, True)


@pytest.mark.parametrize("column", ["path", "status", "label", "p_"])
def test_a_column_that_is_missing_is_named(tmp_path, column):
    (tmp_path / "a.csv").write_text(HEAD.replace(column, "other") + ROWS.format("p"))
    with pytest.raises(UsageError, match=f"lacks the column {column}"):
        read_rows(tmp_path / "a.csv")


def test_a_spreadsheets_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "a.csv").write_text(HEAD + ROWS.format("p"), encoding="utf-8-sig")
    assert read_rows(tmp_path / "a.csv").keys() == {"1.jpg", "y/2.jpg"}
