from __future__ import annotations

import os
from pathlib import Path

import pytest

from wetread.runtime.entries import Entry
from wetread.runtime.watch.given_up import GivenUp


@pytest.fixture
def moved(tmp_path) -> tuple[GivenUp, Path, Path]:
    root, failed = tmp_path / "in", tmp_path / "failed"
    for folder in (root, failed / "ward"):
        folder.mkdir(parents=True)
    place = failed / "ward" / "a.jpg"
    place.write_bytes(b"half")
    status = place.stat()
    given_up = GivenUp(str(failed), root=f"{root}/")
    given_up.note(str(place), Entry.of_file("x", size=status.st_size, modified=status.st_mtime_ns))
    return given_up, root, place


def test_what_stays_as_it_was_stays_where_it_is(moved):
    given_up, _, place = moved
    given_up.take_back()
    assert place.read_bytes() == b"half"


def test_what_grows_comes_back(moved):
    given_up, root, place = moved
    with place.open("ab") as sender:
        sender.write(b" and half")
    given_up.take_back()
    assert (root / "ward" / "a.jpg").read_bytes() == b"half and half"
    assert not place.exists()
    given_up.take_back()


def test_a_file_that_came_meanwhile_under_the_name_stays(moved):
    given_up, root, place = moved
    (root / "ward").mkdir()
    (root / "ward" / "a.jpg").write_bytes(b"another")
    place.write_bytes(b"half and half")
    given_up.take_back()
    assert (root / "ward" / "a.jpg").read_bytes() == b"another"
    assert (root / "ward" / "a (2).jpg").read_bytes() == b"half and half"


def test_what_its_owner_took_away_is_forgotten(moved):
    given_up, root, place = moved
    place.unlink()
    given_up.take_back()
    place.write_bytes(b"half and half")
    given_up.take_back()
    assert list(root.iterdir()) == []


def test_a_share_that_changes_times_at_the_move_brings_nothing_back(moved):
    _, root, place = moved
    given_up = GivenUp(str(place.parent.parent), root=f"{root}/")
    os.utime(place, ns=(10**18, 10**18))
    given_up.note(str(place), Entry.of_file("x", size=4, modified=2 * 10**18))
    given_up.take_back()
    assert place.exists()


def test_what_grew_between_reading_and_moving_comes_back(moved):
    _, root, place = moved
    given_up = GivenUp(str(place.parent.parent), root=f"{root}/")
    given_up.note(str(place), Entry.of_file("x", size=3, modified=1))
    given_up.take_back()
    assert (root / "ward" / "a.jpg").exists()
