from __future__ import annotations

import pytest

from wetread.runtime.entries import Entry
from wetread.runtime.watch.arrivals import Arrivals, is_unfinished, sign_file


class Folder:
    """Files that only have signatures."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, int, int]] = {}

    def observe(self, arrivals: Arrivals, now: float) -> list[str]:
        return [entry.name for entry in arrivals.observe(map(Entry, sorted(self.files)), now=now)]


@pytest.fixture
def folder() -> Folder:
    return Folder()


@pytest.fixture
def arrivals(folder) -> Arrivals:
    return Arrivals(settle=2, patience=30, sign=lambda name: folder.files.get(name))


def test_a_file_counts_once_it_has_stood_still(folder, arrivals):
    folder.files["a"] = (10, 1, 1)
    assert folder.observe(arrivals, 0) == []
    assert folder.observe(arrivals, 1.9) == []
    assert folder.observe(arrivals, 2) == ["a"]


@pytest.mark.parametrize("changed", [(11, 1, 1), (10, 2, 1), (10, 1, 2)])
def test_whatever_moves_begins_the_wait_again(folder, arrivals, changed):
    folder.files["a"] = (10, 1, 1)
    folder.observe(arrivals, 0)
    folder.files["a"] = changed
    assert folder.observe(arrivals, 2) == []
    assert folder.observe(arrivals, 3.9) == []
    assert folder.observe(arrivals, 4) == ["a"]


def test_order_is_that_of_arrival_and_a_slow_file_keeps_none_waiting(folder, arrivals):
    folder.files |= {"a": (1, 30, 30), "b": (1, 20, 10), "c": (1, 5, 40), "d": (1, 20, 10)}
    folder.observe(arrivals, 0)
    folder.files["slow"] = (1, 1, 1)
    assert folder.observe(arrivals, 2) == ["b", "d", "a", "c"]


def test_entries_carry_what_was_seen(folder, arrivals):
    folder.files["a"] = (10, 123, 456)
    arrivals.observe([Entry("a")], now=0)
    assert arrivals.observe([Entry("a")], now=5) == [Entry("a", 10, "123")]


def test_a_doubted_file_gets_its_patience_once(folder, arrivals):
    folder.files["a"] = (10, 1, 1)
    folder.observe(arrivals, 0)
    (entry,) = arrivals.observe([Entry("a")], now=2)
    assert arrivals.doubt(entry)
    assert folder.observe(arrivals, 29) == []
    assert folder.observe(arrivals, 30) == ["a"]
    assert not arrivals.doubt(entry)


def test_a_doubted_file_that_grows_is_new(folder, arrivals):
    folder.files["a"] = (10, 1, 1)
    folder.observe(arrivals, 0)
    (entry,) = arrivals.observe([Entry("a")], now=2)
    arrivals.doubt(entry)
    folder.files["a"] = (20, 2, 2)
    assert not arrivals.is_unchanged(entry)
    assert folder.observe(arrivals, 3) == []
    assert folder.observe(arrivals, 5) == ["a"]


def test_what_is_gone_is_forgotten(folder, arrivals):
    folder.files["a"] = (10, 1, 1)
    folder.observe(arrivals, 0)
    del folder.files["a"]
    assert folder.observe(arrivals, 2) == []
    folder.files["a"] = (10, 1, 1)
    assert folder.observe(arrivals, 3) == []


@pytest.mark.parametrize("name", ["x.part", "x.TMP", "x.filepart", "x.crdownload", "a/x.dcm~"])
def test_names_of_copies_under_way_wait_for_their_real_name(folder, arrivals, name):
    assert is_unfinished(name)
    folder.files[name] = (1, 1, 1)
    folder.observe(arrivals, 0)
    assert folder.observe(arrivals, 100) == []


def test_signatures_of_real_files(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    before = sign_file(str(tmp_path / "a"))
    assert before is not None
    assert before[0] == 3
    (tmp_path / "a").write_bytes(b"456")
    assert sign_file(str(tmp_path / "a")) != before
    assert sign_file(str(tmp_path / "b")) is None
