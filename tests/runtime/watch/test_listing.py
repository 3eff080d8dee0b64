from __future__ import annotations

import os
from pathlib import Path

import pytest

from wetread.errors import SourceError
from wetread.runtime.entries import Entry
from wetread.runtime.sources import local
from wetread.runtime.sources.local import walk
from wetread.runtime.watch import listing as module
from wetread.runtime.watch.listing import Listing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The clock of a listing that costs 0.1 s: in full it is made every ten seconds."""
    ticks = iter(range(10**9))
    monkeypatch.setattr(module, "thread_time", lambda: next(ticks) / 10)
    return Clock()


@pytest.fixture
def tree(tmp_path) -> Path:
    for name in ("a.jpg", "b/c.jpg", "b/d/e.jpg", "b/d/.hidden", "done/f.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    return tmp_path


def names(found: list[Entry], tree: Path) -> list[str]:
    return [Path(os.path.relpath(entry.name, tree)).as_posix() for entry in found]


def calm_down(listing: Listing, clock: Clock) -> None:
    """Look twice, with all files done: every folder is calm, and the next listing in full is far."""
    for now in (0.0, 20.0):
        clock.now = now
        listing.look()
        listing.settle([])


def test_it_finds_what_a_walk_finds(tree, clock):
    listing = Listing(f"{tree}/", {f"{tree}/done/"}, clock)
    assert sorted(listing.look(), key=lambda entry: entry.name) == sorted(
        walk(f"{tree}/", pruned={f"{tree}/done/"}), key=lambda entry: entry.name
    )


def test_calm_folders_are_left_out_and_new_names_are_seen_at_once(tree, clock):
    listing = Listing(f"{tree}/", {f"{tree}/done/"}, clock)
    calm_down(listing, clock)
    clock.now = 21
    assert listing.look() == []
    listing.settle([])
    (tree / "b" / "d" / "new.jpg").write_bytes(b"2")
    (tree / "x").mkdir()
    (tree / "x" / "y.jpg").write_bytes(b"3")
    clock.now = 22
    assert names(listing.look(), tree) == ["a.jpg", "b/d/e.jpg", "b/d/new.jpg", "x/y.jpg"]


def test_a_folder_is_not_trusted_before_its_times_can_have_changed(tree, clock):
    """Two changes within the exactness of a file system's times leave the same times."""
    listing = Listing(f"{tree}/", clock=clock)
    listing.look()
    listing.settle([])
    clock.now = 4
    assert "a.jpg" in names(listing.look(), tree)


def test_a_folder_with_a_file_that_waits_is_listed(tree, clock):
    listing = Listing(f"{tree}/", clock=clock)
    for now in (0.0, 20.0, 21.0):
        clock.now = now
        found = listing.look()
        listing.settle([entry for entry in found if entry.name.endswith("c.jpg")])
    assert names(found, tree) == ["b/c.jpg"]


def test_a_file_that_is_written_again_is_seen_at_the_next_full_listing(tree, clock):
    listing = Listing(f"{tree}/", clock=clock)
    calm_down(listing, clock)
    (tree / "b" / "d" / "e.jpg").write_bytes(b"longer")
    clock.now = 29
    assert listing.look() == []
    clock.now = 30
    assert {entry.size for entry in listing.look()} == {1, 6}


def test_after_a_failure_everything_is_listed(tree, clock, monkeypatch):
    listing = Listing(f"{tree}/", clock=clock)
    calm_down(listing, clock)
    away = tree.with_name("away")
    tree.rename(away)
    with pytest.raises(SourceError, match="cannot be listed"):
        listing.look()
    away.rename(tree)
    assert len(listing.look()) == 4


def test_folders_that_stay_empty_are_removed(tree, clock):
    for name in ("empty/deep", "hidden"):
        (tree / name).mkdir(parents=True)
    (tree / "hidden" / ".lock").touch()
    listing = Listing(f"{tree}/", clock=clock)
    for now in (0.0, 599.0):
        clock.now = now
        listing.look()
        listing.prune(after=600)
    assert (tree / "empty" / "deep").exists()
    clock.now = 600
    listing.look()
    listing.prune(after=600)
    assert not (tree / "empty" / "deep").exists()
    for now in (601.0, 1202.0):  # the one above begins anew: it has just changed
        clock.now = now
        listing.look()
        listing.prune(after=600)
    assert sorted(each.name for each in tree.iterdir()) == ["a.jpg", "b", "done", "hidden"]


@pytest.mark.skipif(os.name == "nt", reason="Windows makes links for administrators only")
def test_links_that_lead_back_end(tree, clock):
    (tree / "b" / "back").symlink_to(tree)
    assert len(Listing(f"{tree}/", clock=clock).look()) == 4


@pytest.mark.parametrize("at", ["stat", "list"])
@pytest.mark.parametrize(
    ("error", "trouble"),
    [(FileNotFoundError(2, "No such file"), ""), (PermissionError(13, "denied"), "denied")],
)
def test_a_folder_below_that_is_gone_or_shut_holds_no_other(tree, clock, monkeypatch, at, error, trouble):
    target, name = (module.os, "stat") if at == "stat" else (local.os, "scandir")
    whole = getattr(target, name)

    def ask(path: str, *more: object) -> object:
        if str(path).rstrip("/").endswith("b/d"):
            raise error
        return whole(path, *more)

    listing = Listing(f"{tree}/", clock=clock)
    with monkeypatch.context() as held:
        held.setattr(target, name, ask)
        assert sorted(names(listing.look(), tree)) == ["a.jpg", "b/c.jpg", "done/f.jpg"]
        listing.settle([])
    assert trouble in listing.trouble and bool(listing.trouble) == bool(trouble)
    clock.now = 1
    assert "b/d/e.jpg" in names(listing.look(), tree)
    assert listing.trouble == ""
