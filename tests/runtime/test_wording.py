from __future__ import annotations

import pytest

from wetread.runtime.wording import make_printable, measure_width, pluralize


@pytest.mark.parametrize(
    ("word", "plural"),
    [
        ("patient", "patients"),
        ("study", "studies"),
        ("biopsy", "biopsies"),
        ("assay", "assays"),
        ("box", "boxes"),
        ("batch", "batches"),
        ("virus", "viruses"),
        ("glass", "glasses"),
        ("series", "series"),
        ("field plot", "field plots"),
    ],
)
def test_plurals(word: str, plural: str) -> None:
    assert pluralize(word) == plural


def test_what_a_terminal_does_not_show_is_an_escape() -> None:
    assert make_printable("a\nb\x1b[2J\udcff é 中") == "a\\nb\\x1b[2J\\udcff é 中"
    assert make_printable("می\u200cخواهم \u202egnp.exe") == "می\u200cخواهم \\u202egnp.exe"


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("肺炎", 4), ("e\u0301", 1), ("क्\u200dष", 2), ("", 0)]
)
def test_the_width_of_a_text_in_a_terminal(text: str, width: int) -> None:
    assert measure_width(text) == width
