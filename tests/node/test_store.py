from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from tests.node.conftest import make_image, until
from wetread.errors import OutputError
from wetread.node.known_objects import is_other
from wetread.node.store import Received, Store, Survey
from wetread.node.store_marker import MARKER
from wetread.runtime.files.line_log import LineLog

IDENTITY = {"model": "m"}


RESULTS = ("sr A@h:1", "sc A@h:1")


def open_store(folder: Path, *, results: tuple[str, ...] = RESULTS, **more: object) -> Store:
    ledger = str(folder / "s.csv.node")
    return Store(str(folder / "store"), ledger=ledger, identity=more or IDENTITY, results=results)


def finish(store: Store, name: str, *, retain: str) -> None:
    store.finish([name])
    store.put_away(name, retain=retain)


def test_new_same_and_other(tmp_path):
    store = open_store(tmp_path)
    assert store.keep("1.2.3", b"one") == (Received.NEW, "1.2.3.dcm")
    assert store.keep("1.2.3", b"one") == (Received.SAME, "1.2.3.dcm")
    received, name = store.keep("1.2.3", b"two")
    assert received is Received.OTHER and is_other(name) and store.read(name) == b"two"
    assert store.keep("1.2.3", b"two") == (Received.SAME, name)
    assert sorted(store.list_waiting()) == ["1.2.3.dcm", name]
    store.close()


def test_what_was_kept_is_known_after_a_start_however_it_ended(tmp_path):
    store = open_store(tmp_path)
    store.keep("1.2.3", make_image(3))
    store.note_sent("1.2.3.dcm", "sr A@h:1")
    store.keep("1.2.4", b"x")
    finish(store, "1.2.4.dcm", retain="delete")
    store.close()
    # A kill after the file got its name and before the ledger knew.
    (tmp_path / "store" / "1.2.5.dcm").write_bytes(make_image(5))
    (tmp_path / "store" / ".1.2.6.tmp.dcm").write_bytes(b"half")
    store = open_store(tmp_path)
    assert sorted(store.list_waiting()) == ["1.2.3.dcm", "1.2.5.dcm"]
    assert store.list_sent("1.2.3.dcm") == {"sr A@h:1"}
    assert store.survey == Survey(waiting=2)
    assert [store.keep(uid, data)[0] for uid, data in (("1.2.5", make_image(5)), ("1.2.4", b"x"))] == [
        Received.SAME
    ] * 2
    store.close()


def test_results_are_counted_for_the_archives_of_now(tmp_path):
    """One that went to an archive which is no longer asked for stands for none of another."""
    store = open_store(tmp_path)
    _, name = store.keep("1.2.3", b"x")
    for what in ("sr OLD@h:1", "sc OLD@h:1", "sr A@h:1", "sr A@h:1"):
        store.note_sent(name, what)
    assert (store.list_sent(name), store.is_all_sent(name)) == ({"sr A@h:1"}, False)
    store.note_sent(name, "sc A@h:1")
    assert store.is_all_sent(name)
    store.close()
    many = tuple(f"sr A{number}@h:1" for number in range(20))  # more bits than a byte has
    for results, is_all in ((("sr OLD@h:1",), True), (("sr B@h:1", "sr A@h:1"), False), (many, False)):
        store = open_store(tmp_path, results=results)
        assert (list(store.list_waiting()), store.is_all_sent(name)) == ([name], is_all)
        assert store.list_sent(name) == {"sr OLD@h:1", "sr A@h:1"}.intersection(results)
        if results is many:
            for what in many:
                store.note_sent(name, what)
            assert store.is_all_sent(name)
        store.close()


def test_a_start_notes_many_that_nobody_noted_in_lines_of_some(tmp_path, monkeypatch):
    import wetread.node.store as module

    monkeypatch.setattr(module, "_PART", 2)
    (tmp_path / "store").mkdir()
    for number in range(5):
        (tmp_path / "store" / f"1.2.{number}.dcm").write_bytes(make_image(number))
    open_store(tmp_path).close()
    lines = [json.loads(line) for line in (tmp_path / "s.csv.node").read_text().splitlines()]
    assert [list(line["received"]) for line in lines[2:]] == [
        ["1.2.0", "1.2.1"],
        ["1.2.2", "1.2.3"],
        ["1.2.4"],
    ]


def test_who_wrote_the_file_makes_no_difference(tmp_path):
    """The same object under the meta information of another implementation is the same."""
    import io

    import pydicom

    read = pydicom.dcmread(io.BytesIO(make_image(1)))
    read.file_meta.ImplementationVersionName = "OTHER"
    again = io.BytesIO()
    read.save_as(again, enforce_file_format=True)
    assert again.getvalue() != make_image(1)
    store = open_store(tmp_path)
    assert store.keep("1.2.3.1", make_image(1))[0] is Received.NEW
    assert store.keep("1.2.3.1", again.getvalue())[0] is Received.SAME
    store.close()


@pytest.mark.parametrize("uid", ["", "../x", "1.2/3", "a", "1." * 40, "1..2", "1.2\0", ".1"])
def test_a_name_that_is_no_uid_never_names_a_file(tmp_path, uid):
    store = open_store(tmp_path)
    with pytest.raises(ValueError, match="not a UID"):
        store.keep(uid, b"x")
    assert [path.name for path in (tmp_path / "store").iterdir()] == [MARKER]
    store.close()


def test_a_damaged_ledger_and_that_of_another_model_are_refused(tmp_path):
    store = open_store(tmp_path)
    store.keep("1.2.3", b"x")
    store.close()
    with pytest.raises(OutputError, match="is of another store or model"):
        open_store(tmp_path, model="other")
    ledger = tmp_path / "s.csv.node"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(lines[0] + b"damage\n" + lines[1])
    with pytest.raises(OutputError, match="Line 2 of .* is damaged"):
        open_store(tmp_path)
    ledger.write_bytes(b"".join(lines) + b'{"uid":')  # a kill: half a line
    open_store(tmp_path).close()


def test_many_that_came_stand_in_one_line_of_the_ledger(tmp_path):
    store = open_store(tmp_path)
    for number in range(3):
        store.keep(f"1.2.{number}", make_image(number))
    store.note_received()
    store.note_received()
    store.close()
    lines = [json.loads(line) for line in (tmp_path / "s.csv.node").read_text().splitlines()]
    assert [list(line) for line in lines] == [["version", "identity"], ["marked"], ["received"]]
    assert list(lines[2]["received"]) == ["1.2.0", "1.2.1", "1.2.2"]
    store = open_store(tmp_path)
    assert store.keep("1.2.1", make_image(1))[0] is Received.SAME
    store.close()


def test_many_that_are_done_stand_in_one_line_of_the_ledger(tmp_path):
    store = open_store(tmp_path)
    names = [store.keep(f"1.2.{number}", make_image(number))[1] for number in range(3)]
    store.finish(names[:2])
    store.finish(names)
    store.finish(names)
    store.close()
    lines = [json.loads(line) for line in (tmp_path / "s.csv.node").read_text().splitlines()]
    assert [line["done"] for line in lines if "done" in line] == [names[:2], names[2:]]
    store = open_store(tmp_path)
    assert (list(store.list_waiting()), sorted(store.list_left())) == ([], names)
    assert store.survey == Survey(left=3)
    store.close()


def test_what_is_done_is_noted_after_what_came(tmp_path):
    """Its file may be gone at once: then the ledger alone knows it."""
    store = open_store(tmp_path)
    _, name = store.keep("1.2.1", make_image(1))
    finish(store, name, retain="delete")
    store.close()
    store = open_store(tmp_path)
    assert store.keep("1.2.1", make_image(1))[0] is Received.SAME
    store.close()


def test_objects_of_one_uid_wait_for_one_another_and_others_do_not(tmp_path, monkeypatch):
    import wetread.node.store as module

    store, whole, going, begun = open_store(tmp_path), module.write_file, threading.Event(), []

    def write(path: Path, *parts: bytes, **more: int) -> None:
        begun.append(path.name)
        assert going.wait(60)
        whole(path, *parts, **more)

    monkeypatch.setattr(module, "write_file", write)
    found: list[Received] = []
    work = [("1.2.1", make_image(1)), ("1.2.1", make_image(2)), ("1.2.2", make_image(3))]
    threads = [threading.Thread(target=lambda each=each: found.append(store.keep(*each)[0])) for each in work]
    for thread in threads:
        thread.start()
    until(lambda: len(begun) == 2)
    assert sorted(begun) == ["1.2.1.dcm", "1.2.2.dcm"]
    going.set()
    for thread in threads:
        thread.join()
    assert sorted(each.name for each in found) == ["NEW", "NEW", "OTHER"]
    store.close()


@pytest.mark.parametrize("broken", ["ledger", "object"])
def test_what_cannot_be_used_at_the_start_is_an_error_of_the_output(tmp_path, monkeypatch, broken):
    def fail(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    if broken == "ledger":
        monkeypatch.setattr(LineLog, "append", fail)
    else:
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "1.2.5.dcm").write_bytes(b"x")
        monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OutputError, match="cannot be used: No space left on device"):
        open_store(tmp_path)
    monkeypatch.undo()
    open_store(tmp_path).close()  # the lock is free


def test_an_object_that_cannot_be_read_at_the_start_is_named(tmp_path):
    (tmp_path / "store" / "1.2.5.dcm").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot be used: .* \('.*1\.2\.5\.dcm'\)\. "):
        open_store(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets few people make links")
def test_a_link_that_leads_nowhere_is_no_object_and_holds_no_start(tmp_path):
    open_store(tmp_path).close()
    (tmp_path / "store" / "1.2.5.dcm").symlink_to(tmp_path / "away")
    (tmp_path / "store" / "1.2.6.dcm").write_bytes(b"x")
    store = open_store(tmp_path)
    assert (store.keep("1.2.6", b"x")[0], store.keep("1.2.5", b"y")[0]) == (Received.SAME, Received.NEW)
    store.close()


def test_a_store_is_one_nodes_even_beside_another_output(tmp_path):
    """A second one would give the objects rows again, and delete those whose results are not out."""
    store = open_store(tmp_path)
    store.keep("1.2.3", b"x")
    other = str(tmp_path / "other.csv.node")
    with pytest.raises(OutputError, match="Another node uses the store"):
        Store(str(tmp_path / "store"), ledger=other, identity=IDENTITY)
    store.close()
    Store(str(tmp_path / "store"), ledger=other, identity=IDENTITY).close()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_objects_are_their_owners_alone(tmp_path):
    store = open_store(tmp_path)
    _, name = store.keep("1.2.3", b"x")
    assert stat.S_IMODE((tmp_path / "store" / name).stat().st_mode) == 0o600
    finish(store, name, retain=str(tmp_path / "away"))
    assert stat.S_IMODE((tmp_path / "away" / name).stat().st_mode) == 0o600
    store.close()


def test_what_is_held_stays_over_a_start(tmp_path):
    store = open_store(tmp_path)
    _, name = store.keep("1.2.3", b"x")
    store.hold(name)
    store.close()
    store = open_store(tmp_path)
    finish(store, name, retain="delete")
    assert (list(store.list_waiting()), store.list_left(), store.read(name)) == ([], [], b"x")
    assert store.survey == Survey(waiting=1)
    store.close()


def test_an_object_that_was_removed_before_it_was_done_is_taken_again(tmp_path):
    store = open_store(tmp_path)
    for uid in ("1.2.3", "1.2.4"):
        store.keep(uid, b"x")
    finish(store, "1.2.4.dcm", retain="delete")
    (tmp_path / "store" / "1.2.3.dcm").unlink()
    with pytest.raises(FileNotFoundError):
        store.read("1.2.3.dcm")
    for _ in range(2):
        assert store.keep("1.2.4", b"x") == (Received.SAME, "1.2.4.dcm")  # done is done
    assert store.keep("1.2.3", b"x") == (Received.NEW, "1.2.3.dcm")
    assert store.read("1.2.3.dcm") == b"x"
    store.close()
    store = open_store(tmp_path)
    assert sorted(store.list_waiting()) == ["1.2.3.dcm"]
    store.close()


def test_a_store_whose_disk_is_not_mounted_is_neither_written_nor_read(tmp_path):
    """What is left of it is an empty folder: what is written there is hidden when the disk comes back."""
    folder = tmp_path / "store"
    store = open_store(tmp_path)
    store.keep("1.2.3", b"x")
    folder.rename(tmp_path / "disk")
    folder.mkdir()
    for act in (lambda: store.keep("1.2.4", b"y"), lambda: store.read("1.2.3.dcm")):
        with pytest.raises(OSError, match="the store is not there, .wetread-store is missing") as caught:
            act()
        assert not isinstance(caught.value, FileNotFoundError)
    store.close()
    with pytest.raises(OutputError, match="1 objects in it are not done. Mount its disk"):
        open_store(tmp_path)
    assert list(folder.iterdir()) == []
    folder.rmdir()
    (tmp_path / "disk").rename(folder)
    store = open_store(tmp_path)
    assert store.keep("1.2.4", b"y")[0] is Received.NEW
    assert sorted(store.list_waiting()) == ["1.2.3.dcm", "1.2.4.dcm"]
    store.close()


def empty(store: Path) -> None:
    for path in store.iterdir():
        path.unlink()


@pytest.mark.parametrize("is_done", [False, True])
def test_an_empty_folder_in_place_of_the_store_is_refused_even_if_all_is_done(tmp_path, is_done):
    """After a boot all is done as a rule. What came into the bare folder would be hidden by the disk."""
    store = open_store(tmp_path)
    store.keep("1.2.3", b"x")
    if is_done:
        finish(store, "1.2.3.dcm", retain="delete")
    store.close()
    empty(tmp_path / "store")
    with pytest.raises(OutputError, match=f"{1 - is_done} objects in it are not done. Mount its disk"):
        open_store(tmp_path)
    assert list((tmp_path / "store").iterdir()) == []
    (tmp_path / "store" / MARKER).touch()  # it was emptied on purpose
    open_store(tmp_path).close()


@pytest.mark.parametrize("is_done", [False, True])
def test_a_store_of_a_version_without_a_marker_is_taken_over(tmp_path, is_done):
    ledger = [
        {"version": 1, "identity": IDENTITY},
        {"uid": "1.2.3", "digest": "00" * 16},
        {"received": {"1.2.4": "11" * 16}},
        *([{"done": "1.2.3.dcm"}, {"done": "1.2.4.dcm"}] if is_done else []),
    ]
    (tmp_path / "s.csv.node").write_text("".join(json.dumps(line) + "\n" for line in ledger))
    (tmp_path / "store").mkdir()
    if not is_done:
        (tmp_path / "store" / "1.2.3.dcm").write_bytes(b"x")
    for _ in range(2):
        store = open_store(tmp_path)
        assert sorted(store.list_waiting()) == ([] if is_done else ["1.2.3.dcm"])
        assert store.list_missing() == ([] if is_done else ["1.2.4.dcm"])
        assert store.survey == (Survey() if is_done else Survey(waiting=1, missing=1))
        store.close()
    (tmp_path / "store" / MARKER).unlink()
    (tmp_path / "store" / "1.2.3.dcm").unlink(missing_ok=True)
    with pytest.raises(OutputError, match="Mount its disk"):
        open_store(tmp_path)
