"""The owner's module: found, run, and its names taken; or said what is wrong with it."""

from __future__ import annotations

import sys

import pytest

from wetread.errors import ConfigError
from wetread.export.forms.custom import import_custom, split_custom


@pytest.mark.parametrize(
    ("text", "place", "names"),
    [
        ("mine", "mine", ()),
        ("mine:A,B", "mine", ("A", "B")),
        ("my/own.py", "my/own.py", ()),
        ("my/own.py:A", "my/own.py", ("A",)),
        (r"C:\own.py", r"C:\own.py", ()),
        (r"C:\own.py:A", r"C:\own.py", ("A",)),
    ],
)
def test_how_it_is_written(text, place, names):
    assert split_custom(text) == (place, names)


def test_modules_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside_it.py").write_text("VALUE = 3\n")
    (tmp_path / "own_code_of_a_test.py").write_text(
        "from beside_it import VALUE\ndef f(x):\n    return x * VALUE\nclass A:\n    pass\n"
    )
    before = list(sys.path)
    assert import_custom("own_code_of_a_test:f")["f"](2) == 6
    assert set(import_custom(str(tmp_path / "own_code_of_a_test.py"))) == {"f", "A"}
    assert sys.path == before
    with pytest.raises(ConfigError, match="'g'.*it has A, f"):
        import_custom("own_code_of_a_test:g")


def test_what_cannot_be_imported(tmp_path):
    with pytest.raises(ConfigError, match="No module named 'nothing_of_that_name'"):
        import_custom("nothing_of_that_name")
    with pytest.raises(ConfigError, match="does not exist"):
        import_custom(str(tmp_path / "a.py"))
    (tmp_path / "b.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        import_custom(str(tmp_path / "b.py"))
