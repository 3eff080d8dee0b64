"""A scores file is read as Python's csv module reads it, whichever way is quicker."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from wetread.runtime.scoring.scores_file import ScoresFile

HEADER = "path,status,label,probability\n"


def read_columns(content: str) -> list[list[str]]:
    """The columns of a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scores.csv")
        path.write_text(content, encoding="utf-8", errors="surrogateescape", newline="")
        found: list[list[str]] = [[], [], [], []]
        for batch in ScoresFile(str(path)).read_new():
            for column, texts in zip(found, batch, strict=True):
                column += texts
    return found


def read_plainly(content: str) -> list[list[str]]:
    """The columns that the csv module finds, with rows filled or cut to the header's width."""
    rows = list(csv.reader(io.StringIO(content, newline="")))[1:]
    filled = [(row + [""] * 4)[:4] for row in rows if row]
    return [[row[column] for row in filled] for column in range(4)]


cells = st.text(st.sampled_from("ab ,.\t\x0b\x1f\x85\u2028\ufeff\udcff"), max_size=4)
quoted = st.text(st.sampled_from('a,"\n\r'), max_size=4)
lines = st.lists(cells.map(lambda cell: cell.replace(",", "")), max_size=6).map(",".join)


@given(st.lists(lines, max_size=8))
@example(["a,ok,x,1", "b,ok,x,1"])
@example(["a,ok,x,1", "", "b,ok,x"])
@example(["a,ok,x,1,", "b,ok,x"])
def test_rows_without_quotes_are_those_of_the_csv_module(rows):
    content = HEADER + "".join(f"{row}\n" for row in rows)
    assert read_columns(content) == read_plainly(content)


@given(
    st.lists(st.lists(st.text(st.sampled_from('a,"\n\r'), max_size=4), min_size=4, max_size=4), max_size=6)
)
def test_rows_with_quotes_are_those_of_the_csv_module(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    assert read_columns(HEADER + text.getvalue()) == read_plainly(HEADER + text.getvalue())


def test_rows_that_end_as_on_windows_and_begin_with_a_mark():
    content = HEADER + "a.png,ok,x,1\nb.png,empty,,\n"
    assert read_columns("\ufeff" + content.replace("\n", "\r\n")) == read_plainly(content)


def test_a_file_of_several_pieces_has_every_row_once():
    names = [f"{number:06}{'x' * (number % 50)}.png" for number in range(60_000)]
    content = HEADER + "".join(f"{name},ok,x,0.{number}\n" for number, name in enumerate(names))
    path, status, _, probability = read_columns(content)
    assert path == names and set(status) == {"ok"}
    assert probability == [f"0.{number}" for number in range(60_000)]
