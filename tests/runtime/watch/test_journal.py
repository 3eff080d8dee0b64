from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from wetread.errors import OutputError
from wetread.runtime.entries import Entry
from wetread.runtime.scoring.rows import Prediction
from wetread.runtime.watch.journal import Journal, key_entry, open_journal

LABELS = ("NORMAL", "PNEUMONIA")
HEADER = "path,status,label,probability,p_NORMAL,p_PNEUMONIA,error\n"


def make_journal(path: Path, *, kind: str = "csv", model: str = "m") -> Journal:
    return Journal(str(path), labels=LABELS, kind=kind, identity={"model": model})


def row(name: str) -> Prediction:
    return Prediction(name, "ok", "NORMAL", 0.75, (0.75, 0.25))


def line(name: str) -> str:
    return f"{name},ok,NORMAL,0.75,0.75,0.25,\n"


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "scores.csv"


def write(output: Path, *names: str) -> None:
    with open_journal(make_journal(output)) as journal:
        for name in names:
            journal.append([row(name)], [key_entry(Entry(name, 1, "1"))])


def test_rows_are_appended_over_several_runs(output):
    write(output, "a", "b")
    write(output, "c")
    assert output.read_text() == HEADER + line("a") + line("b") + line("c")
    with open_journal(make_journal(output)) as journal:
        assert [journal.find_score(key_entry(Entry(name, 1, "1"))) for name in "abcd"] == [True] * 3 + [None]
        assert len(journal) == 3


def test_keys_remember_who_had_a_score_and_who_left(output):
    with open_journal(make_journal(output)) as journal:
        journal.append([row("a"), Prediction("b", "empty", error="nothing")], ["k1", "k2"])
        journal.append([row("c")], ["k3"])
        journal.forget(["k1"])
        assert [journal.find_score(f"k{number}") for number in (1, 2, 3)] == [None, False, True]
    with open_journal(make_journal(output)) as journal:
        assert [journal.find_score(f"k{number}") for number in (1, 2, 3)] == [None, False, True]


def test_json_lines(tmp_path):
    path = tmp_path / "scores.jsonl"
    for name in "ab":
        with open_journal(make_journal(path, kind="jsonl")) as journal:
            journal.append([row(name)], [name])
    assert [json.loads(text)["path"] for text in path.read_text().splitlines()] == ["a", "b"]


def test_every_cut_of_output_and_journal_recovers(output):
    """A kill leaves any beginning of the rows, and then any beginning of the journal's line."""
    write(output, "a")
    rows, journal = output.read_bytes(), Path(f"{output}.watch").read_bytes()
    write(output, "b")
    more, longer = output.read_bytes(), Path(f"{output}.watch").read_bytes()
    for cut in range(len(rows), len(more) + 1):
        output.write_bytes(more[:cut])
        Path(f"{output}.watch").write_bytes(journal)
        write(output, "b")
        assert output.read_bytes() == more
    for cut in range(len(journal), len(longer)):
        output.write_bytes(more)
        Path(f"{output}.watch").write_bytes(longer[:cut])
        write(output, "b")
        assert output.read_bytes() == more


def test_every_cut_of_the_beginning_recovers(output):
    with open_journal(make_journal(output)):
        pass
    first = Path(f"{output}.watch").read_bytes()
    assert output.read_text() == HEADER
    for cut in range(len(first)):
        output.unlink()
        Path(f"{output}.watch").write_bytes(first[:cut])
        write(output, "a")
        assert output.read_text() == HEADER + line("a")
        output.write_text(HEADER)
    for cut in range(len(HEADER) + 1):
        output.write_text(HEADER[:cut])
        Path(f"{output}.watch").write_bytes(first)
        write(output, "a")
        assert output.read_text() == HEADER + line("a")


def damage_missing_quote(lines: list[bytes], at: int) -> None:
    lines[at] = lines[at].replace(b'"', b"", 1)


def damage_short_numbers(lines: list[bytes], at: int) -> None:
    lines[at] = b'{"ok":[],"rows":[1,2]}\n'


def damage_zeros(lines: list[bytes], at: int) -> None:
    lines[at] = b"\0" * (len(lines[at]) - 1) + b"\n"


def damage_gone(lines: list[bytes], at: int) -> None:
    lines[at] = b"\n"


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("damage", [damage_missing_quote, damage_short_numbers, damage_zeros, damage_gone])
def test_a_damaged_line_that_no_kill_left_is_refused_and_nothing_is_cut(output, damage, at):
    with open_journal(make_journal(output)) as journal:
        for name in "abc":
            journal.append([row(name)], [name])
        journal.forget(["a"])
    lines = Path(f"{output}.watch").read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    damage(lines, at)
    Path(f"{output}.watch").write_bytes(b"".join(lines))
    if (damage, at) == (damage_zeros, 4):  # this one a power cut may leave
        write(output, "d")
        assert output.read_text() == HEADER + "".join(map(line, "abcd"))
        return
    kept = output.read_bytes(), b"".join(lines)
    with pytest.raises(OutputError, match=rf"scores\.csv\.watch.*has a damaged line {at + 1}\. Restore"):
        open_journal(make_journal(output)).__enter__()
    assert (output.read_bytes(), Path(f"{output}.watch").read_bytes()) == kept


def test_a_journal_without_its_beginning_is_refused(output):
    write(output, "a", "b")
    first, *others = Path(f"{output}.watch").read_bytes().splitlines(keepends=True)
    Path(f"{output}.watch").write_bytes(b"".join(others))
    with pytest.raises(OutputError, match="a damaged line 1"):
        open_journal(make_journal(output, model="other")).__enter__()
    Path(f"{output}.watch").write_bytes(first[:20])
    with pytest.raises(OutputError, match="already exists and has no journal"):
        open_journal(make_journal(output)).__enter__()
    assert output.read_text() == HEADER + line("a") + line("b")
    assert Path(f"{output}.watch").read_bytes() == first[:20]


class FullDisk:
    """A file that takes half of what is written once, and cannot even be cut then."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.failing = file, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: memoryview) -> int:
        if self.failing:
            raise OSError(28, "No space left on device")
        self.failing = True
        return self.file.write(data[: len(data) // 2])

    def truncate(self, size: int) -> int:
        if self.failing:
            raise OSError(5, "Input/output error")
        return self.file.truncate(size)


def test_half_a_line_is_never_left_before_a_whole_one(output):
    with open_journal(make_journal(output)) as journal:
        journal.append([row("a")], ["a"])
        lines = journal._lines._file
        journal._lines._file = FullDisk(lines)
        with pytest.raises(OutputError, match="cannot be written: No space"):
            journal.append([row("b")], ["b"])
        journal._lines._file = lines
        assert not Path(f"{output}.watch").read_bytes().endswith(b"\n")
        journal.append([row("b")], ["b"])
        journal.append([row("c")], ["c"])
    write(output, "d")
    assert output.read_text() == HEADER + "".join(map(line, "abcd"))


def test_an_output_that_was_renamed_begins_again(output):
    write(output, "a")
    output.rename(output.with_name("old.csv"))
    write(output, "b")
    assert output.read_text() == HEADER + line("b")
    with open_journal(make_journal(output)) as journal:
        assert len(journal) == 2
        output.unlink()
        journal.append([row("c")], ["c"])
        journal.append([row("d")], ["d"])
    assert output.read_text() == HEADER + line("c") + line("d")


def test_an_output_that_was_shortened_to_whole_rows_goes_on(output):
    write(output, "a", "b", "c")
    output.write_text(HEADER + line("a"))
    write(output, "d")
    assert output.read_text() == HEADER + line("a") + line("d")


def test_a_file_of_the_users_is_left_alone(output):
    output.write_text("mine\n")
    with pytest.raises(OutputError, match="has no journal"), open_journal(make_journal(output)):
        pass
    assert output.read_text() == "mine\n"


def test_an_output_that_something_else_wrote_to_is_refused(output):
    write(output, "a", "b")
    changed = output.read_text().replace("b,ok", "B,ok")
    output.write_text(changed)
    with pytest.raises(OutputError, match="was changed by"), open_journal(make_journal(output)):
        pass
    assert output.read_text() == changed


def test_rows_of_another_model_are_refused(output):
    write(output, "a")
    with pytest.raises(OutputError, match="begun with another model: 'm', not 'other'"):
        open_journal(make_journal(output, model="other")).__enter__()


def test_a_failed_append_can_be_tried_again(output, monkeypatch):
    with open_journal(make_journal(output)) as journal:
        journal.append([row("a")], ["a"])
        full = OSError(28, "No space")
        monkeypatch.setattr(journal._lines, "append", lambda _: (_ for _ in ()).throw(full))
        with pytest.raises(OutputError, match="cannot be written: No space"):
            journal.append([row("b")], ["b"])
        assert (len(journal), journal.find_score("a")) == (1, True)
        monkeypatch.undo()
        journal.append([row("b")], ["b"])
    assert output.read_text() == HEADER + line("a") + line("b")


def test_there_is_one_writer(output):
    code = (
        "import sys; from wetread.runtime.watch.journal import *; "
        f"Journal({os.fspath(output)!r}, labels=('a', 'b'), kind='csv', identity={{}})"
    )
    with open_journal(make_journal(output)):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Another watch is writing" in done.stderr
