from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.runtime.files.line_log import BusyLogError, DamagedLogError, LineLog


def read(path: Path) -> list[dict[str, object]]:
    log, lines = LineLog(str(path)), []
    try:
        log.read(lambda line, _: lines.append(line))
    finally:
        log.close()
    return lines


def write(path: Path, *lines: dict[str, object]) -> None:
    log = LineLog(str(path))
    log.read(lambda line, first: None)
    for line in lines:
        log.append(line)
    log.close()


def test_lines_come_back_in_order_and_the_first_is_known(tmp_path):
    write(tmp_path / "log", {"a": 1}, {"b": "ü"})
    write(tmp_path / "log", {"c": [3]})
    log, seen = LineLog(str(tmp_path / "log")), []
    log.read(lambda line, is_first: seen.append((line, is_first)))
    log.close()
    assert seen == [({"a": 1}, True), ({"b": "ü"}, False), ({"c": [3]}, False)]


def test_one_writer(tmp_path):
    log = LineLog(str(tmp_path / "log"))
    with pytest.raises(BusyLogError):
        LineLog(str(tmp_path / "log"))
    log.close()
    LineLog(str(tmp_path / "log")).close()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_cut_loses_the_last_line_alone_and_the_next_goes_on(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "log"
    lines = [{"n": index, "text": "x" * index} for index in range(4)]
    write(path, *lines)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut] + data.draw(st.sampled_from([b"", b"\0\0\0\n", b"\0"])))
    kept = whole[:cut].count(b"\n")
    assert read(path) == lines[:kept]
    write(path, {"new": 1})
    assert read(path) == [*lines[:kept], {"new": 1}]


@pytest.mark.parametrize("damage", [b"{]\n", b"[1]\n", b'{"n": 1\n', b'{"refused": 1}\n'])
def test_damage_in_the_middle_is_named(tmp_path, damage):
    path = tmp_path / "log"
    path.write_bytes(b'{"n": 0}\n' + damage + json.dumps({"n": 2}).encode() + b"\n")

    def take_in(line: dict[str, object], is_first: bool) -> None:
        if "refused" in line:
            raise ValueError

    log = LineLog(str(path))
    with pytest.raises(DamagedLogError) as caught:
        log.read(take_in)
    log.close()
    assert caught.value.number == 2


def test_two_values_in_one_line_and_one_in_two_are_damage(tmp_path):
    """Many lines are parsed at once, with commas between them: their number must be that of the values."""
    path = tmp_path / "log"
    for damage in (b'{"n": 1}, {"n": 2}\n', b'{"n": [{"a": 1}\n{"b": 1}]}\n'):
        path.write_bytes(b'{"n": 0}\n' + damage + b'{"n": 3}\n')
        with pytest.raises(DamagedLogError) as caught:
            read(path)
        assert caught.value.number == 2


def test_a_log_that_was_read_is_read_again(tmp_path):
    write(tmp_path / "log", {"a": 1}, {"b": 2})
    log, seen = LineLog(str(tmp_path / "log")), []
    for _ in range(2):
        log.read(lambda line, _: seen.append(line))
    log.append({"c": 3})
    log.close()
    assert seen == [{"a": 1}, {"b": 2}] * 2
    assert read(tmp_path / "log") == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_a_log_that_could_not_be_read_again_loses_no_line(tmp_path):
    write(tmp_path / "log", {"a": 1}, {"b": 2})
    log = LineLog(str(tmp_path / "log"))
    log.read(lambda line, _: None)

    def fail(line: object, is_first: bool) -> None:
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        log.read(fail)
    log.append({"c": 3})
    log.close()
    assert read(tmp_path / "log") == [{"a": 1}, {"b": 2}, {"c": 3}]
