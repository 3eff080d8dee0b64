from __future__ import annotations

import pytest

from wetread.runtime.entries import Entry, find_proven, is_companion, own_outputs
from wetread.runtime.files.reading import find_entry
from wetread.runtime.scoring.input_digest import mark_entry
from wetread.runtime.sources.local import walk
from wetread.runtime.watch.arrivals import Arrivals
from wetread.runtime.watch.journal import key_entry

ENTRY = Entry("a/x.jpg", 31020, "1700000000000000001")


@pytest.mark.parametrize(
    ("entry", "mark", "key"),
    [
        (ENTRY, "6c41453a", "52d7645fb274d4bd"),
        (Entry("caf\udce9.jpg"), "b7c01b4d", "b56160b7b020a035"),
    ],
)
def test_what_outputs_and_journals_remember_stays_the_same(entry, mark, key):
    """Outputs that are resumed, and journals of watches, were written by earlier versions."""
    assert (mark_entry(entry), key_entry(entry)) == (mark, key)


@pytest.mark.parametrize(
    "other", [Entry("a/y.jpg", 31020, ENTRY.version), Entry("a/x.jpg", 1, ENTRY.version)]
)
def test_another_name_size_or_version_is_another_input(other):
    for changed in (other, Entry("a/x.jpg", 31020, "2")):
        assert changed.identify() != ENTRY.identify()
    assert Entry("a/x.jpg", 31020, ENTRY.version, checksum="yZRlqg==").identify() == ENTRY.identify()


def test_an_input_is_the_same_below_another_root():
    assert Entry("in/x.jpg", 1, "2").identify("in/") == Entry("./in/x.jpg", 1, "2").identify("./in/")


def test_every_way_of_looking_at_a_file_gives_the_same_entry(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"123")
    name = f"{tmp_path}/x.jpg"
    (listed,) = walk(f"{tmp_path}/")
    assert listed == find_entry(name) == Arrivals(0, 0).find(name)
    assert listed.version == str((tmp_path / "x.jpg").stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("name", "companion", "proven"),
    [
        ("s.csv.run.json", True, "s.csv"),
        ("S.CSV.watch", True, "S.CSV"),
        ("s.parquet.part", True, "s.parquet"),
        ("s.csv.part.state", True, ""),
        ("s.jsonl.shard", True, ""),
        ("s.csv", False, ""),
        ("x.run.json", False, ""),
        ("x.jpg.part", False, ""),
    ],
)
def test_a_name_alone_shows_what_is_beside_an_output(name, companion, proven):
    assert (is_companion(name), find_proven(name)) == (companion, proven)
    assert own_outputs([name, "s.csv", "S.CSV", "s.parquet"]) == ({name} if companion else set()) | (
        {proven} if proven else set()
    )
