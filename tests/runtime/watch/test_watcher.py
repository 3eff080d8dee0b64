from __future__ import annotations

import csv
import errno
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw_image
from tests.runtime.scoring.process_run import read_here
from tests.runtime.scoring.test_processes import LINUX, find_children, wait_until_gone
from wetread import Classifier
from wetread.cli import run
from wetread.errors import OutputError, ShareWarning, SourceError, UsageError
from wetread.runtime.entries import Entry
from wetread.runtime.files import moving
from wetread.runtime.files.line_log import LineLog
from wetread.runtime.sources.local import list_folder
from wetread.runtime.watch import listing, status, watcher
from wetread.runtime.watch.folder_lock import LOCK_NAME, lock_folder
from wetread.runtime.watch.watcher import WatchOptions, watch_folder

# In this process, where tests can put something in the place of what reads and decodes.
FAST = {"poll": 0.05, "settle": 0.1, "patience": 0.4, "workers": 1, "isolated": False}


class Scene:
    """A folder that is watched, and what a test does to it."""

    def __init__(self, place: Path, model: Path) -> None:
        self.model, self.place = model, place
        self.folder, self.output = place / "in", place / "scores.csv"
        self.folder.mkdir()
        self.said: list[str] = []

    def options(self, **more) -> WatchOptions:
        return WatchOptions(**({"folder": str(self.folder), "output": str(self.output)} | FAST | more))

    def rows(self) -> list[dict[str, str]]:
        if not self.output.exists():
            return []
        with self.output.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def files(self) -> list[str]:
        return [name for name in os.listdir(self.folder) if not name.startswith(".")]

    def names(self) -> list[str]:
        return [Path(os.path.relpath(row["path"], self.folder)).as_posix() for row in self.rows()]

    def put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    @contextmanager
    def watching(self, **more) -> Iterator[None]:
        """Watch in a thread; raise what it raised."""
        over, failed = threading.Event(), []

        def work() -> None:
            try:
                watch_folder(
                    Classifier(self.model), self.options(**more), stop=over.is_set, report=self.said.append
                )
            except Exception as error:  # noqa: BLE001 - handed on below
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if failed:
            raise failed[0]

    def wait(self, condition: Callable[[], object], *, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited in vain; rows: {self.names()}; said: {self.said}"
            time.sleep(0.02)


@pytest.fixture
def scene(tmp_path, toy_model) -> Scene:
    return Scene(tmp_path, toy_model)


def test_what_arrives_is_scored_once_in_order(scene):
    scene.put("old/b.jpg", draw_image(1))
    with scene.watching():
        scene.wait(lambda: len(scene.rows()) == 1)
        for index, name in enumerate(("z.png", "räume/ü.jpg", "a.jpg")):
            scene.put(name, draw_image(index, suffix=".jpg"))
            time.sleep(0.02)
        scene.wait(lambda: len(scene.rows()) == 4)
        time.sleep(0.3)
    assert scene.names() == ["old/b.jpg", "z.png", "räume/ü.jpg", "a.jpg"]
    scored = {row.path: row for row in Classifier(scene.model).score(scene.folder)}
    for row in scene.rows():
        assert row["status"] == "ok"
        assert float(row["p_PNEUMONIA"]) == scored[row["path"]].probabilities[1]


def test_a_slow_copy_is_scored_when_it_is_whole(scene):
    data = draw_image(3, height=500, width=400)
    with scene.watching(settle=0.3), (scene.folder / "slow.jpg").open("wb", buffering=0) as file:
        for at in range(0, len(data), len(data) // 8 + 1):
            file.write(data[at : at + len(data) // 8 + 1])
            time.sleep(0.1)
            assert scene.rows() == []
        scene.wait(scene.rows)
    assert [row["status"] for row in scene.rows()] == ["ok"]


def test_a_copy_that_pauses_is_given_time(scene):
    """Read too early, it is looked at again, and has one row: the right one."""
    data = draw_image(4)
    with scene.watching(patience=1.5):
        path = scene.put("pausing.jpg", data[: len(data) // 2])
        time.sleep(0.6)
        assert scene.rows() == []
        path.write_bytes(data)
        scene.wait(scene.rows)
    assert [row["status"] for row in scene.rows()] == ["ok"]


def test_a_file_may_be_renamed_in(scene):
    with scene.watching():
        scene.put("x.jpg.part", draw_image(5))
        scene.put(".hidden.jpg", draw_image(5))
        time.sleep(0.4)
        assert scene.rows() == []
        (scene.folder / "x.jpg.part").rename(scene.folder / "x.jpg")
        scene.wait(scene.rows)
    assert scene.names() == ["x.jpg"]


def test_what_has_no_score_has_a_row_that_says_why(scene):
    with scene.watching():
        scene.put("text.txt", b"no picture")
        scene.put("empty.jpg", b"")
        scene.put("good.jpg", draw_image(6))
        scene.wait(lambda: len(scene.rows()) == 3)
    assert {row["path"][-8:]: row["status"] for row in scene.rows()} == {
        "text.txt": "not_an_image",
        "mpty.jpg": "empty",
        "good.jpg": "ok",
    }
    assert scene.names()[0] == "good.jpg"  # the others had to wait


def test_a_fault_of_ours_in_one_file_is_its_row_and_the_others_go_on(scene, monkeypatch):
    from wetread.runtime.images import pixels

    whole, bad = pixels._decode, draw_image(7)

    def decode(data, *rest):
        if data == bad:
            raise KeyError("a bug")
        return whole(data, *rest)

    monkeypatch.setattr(pixels, "_decode", decode)
    with scene.watching():
        scene.put("bad.jpg", bad)
        scene.put("good.jpg", draw_image(6))
        scene.wait(lambda: len(scene.rows()) == 2)
    assert {row["path"][-8:]: row["status"] for row in scene.rows()} == {
        "/bad.jpg": "unreadable",
        "good.jpg": "ok",
    }


def test_a_file_that_ends_its_process_is_its_row_and_the_others_go_on(scene, monkeypatch):
    monkeypatch.setattr(watcher, "_read", read_here)
    failed = scene.place / "failed"
    with scene.watching(isolated=True, failed=str(failed)):
        scene.put("kills.jpg", draw_image(1))
        scene.put("good.jpg", draw_image(2))
        # Ten processes are started: five at each of the two tries that a file without a score has.
        scene.wait(lambda: len(scene.rows()) == 2, seconds=180)
        scene.wait(lambda: (failed / "kills.jpg").exists())
        scene.put("later.jpg", draw_image(3))
        scene.wait(lambda: len(scene.rows()) == 3)
    found = {Path(row["path"]).name: row for row in scene.rows()}
    assert {name: row["status"] for name, row in found.items()} == {
        "kills.jpg": "unreadable",
        "good.jpg": "ok",
        "later.jpg": "ok",
    }
    assert found["kills.jpg"]["error"].startswith("It ended the process that read it")


@LINUX
def test_a_watch_that_is_killed_leaves_no_process(scene):
    command = [sys.executable, "-m", "wetread", "watch", str(scene.folder), "--output", str(scene.output)]
    process = subprocess.Popen([*command, "--model", str(scene.model), "--settle", "0", "--poll", "0.05"])
    scene.put("a.jpg", draw_image(1))
    scene.wait(lambda: len(scene.rows()) == 1)
    workers = find_children(process.pid)
    process.kill()
    process.wait()
    assert workers and wait_until_gone(workers) == []


def test_files_move_to_done_and_failed(scene):
    with scene.watching(done=str(scene.folder / "done"), failed=str(scene.place / "failed")):
        scene.put("ward/a.jpg", draw_image(7))
        scene.put("b.txt", b"no picture")
        scene.wait(lambda: (scene.place / "failed" / "b.txt").exists())
        scene.wait(lambda: (scene.folder / "done" / "ward" / "a.jpg").exists())
        scene.put("ward/a.jpg", draw_image(8))  # the same name again is another file
        scene.wait(lambda: (scene.folder / "done" / "ward" / "a (2).jpg").exists())
    assert sorted(scene.names()) == ["b.txt", "ward/a.jpg", "ward/a.jpg"]
    assert not list(scene.folder.glob("*.*"))


def test_a_file_that_was_scored_but_not_moved_is_moved_at_the_next_start(scene):
    scene.put("a.jpg", draw_image(9))
    with scene.watching():
        scene.wait(scene.rows)
    with scene.watching(done=str(scene.place / "done")):
        scene.wait(lambda: (scene.place / "done" / "a.jpg").exists())
    assert scene.names() == ["a.jpg"]


def test_a_restart_writes_nothing_twice_however_the_folder_is_typed(scene):
    scene.put("a.jpg", draw_image(10))
    with scene.watching():
        scene.wait(scene.rows)
    scene.put("b.jpg", draw_image(11))
    with scene.watching(folder=f"{scene.folder}/"):
        scene.wait(lambda: len(scene.rows()) == 2)
        time.sleep(0.3)
    assert [Path(name).name for name in scene.names()] == ["a.jpg", "b.jpg"]


def test_a_new_version_of_a_file_is_new(scene):
    with scene.watching():
        scene.put("a.jpg", draw_image(12))
        scene.wait(scene.rows)
        scene.put("a.jpg", draw_image(13))
        scene.wait(lambda: len(scene.rows()) == 2)
    assert scene.names() == ["a.jpg", "a.jpg"]


def test_the_output_may_stand_in_the_folder(scene):
    scene.output = scene.folder / "scores.csv"
    with scene.watching():
        scene.put("a.jpg", draw_image(14))
        scene.wait(scene.rows)
        time.sleep(0.4)
    assert scene.names() == ["a.jpg"]
    # Nor does a later run of `wetread score` take it or its journal for inputs.
    assert [Path(row.path).name for row in Classifier(scene.model).score(scene.folder)] == ["a.jpg"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_cannot_be_listed_is_said_once(scene):
    scene.folder.chmod(0)
    with scene.watching():
        time.sleep(0.5)
        scene.folder.chmod(0o700)
        scene.put("a.jpg", draw_image(15))
        scene.wait(scene.rows)
    assert len(scene.said) == 1


def test_a_folder_that_goes_away_and_comes_back(scene):
    away = scene.place / "away"
    with scene.watching():
        scene.put("a.jpg", draw_image(16))
        scene.wait(scene.rows)
        scene.folder.rename(away)
        scene.wait(lambda: scene.said)
        away.rename(scene.folder)
        scene.put("b.jpg", draw_image(17))
        scene.wait(lambda: len(scene.rows()) == 2)
    assert scene.names() == ["a.jpg", "b.jpg"]
    assert "cannot be listed" in scene.said[0]


def test_a_folder_below_that_cannot_be_listed_is_not_named(scene, monkeypatch):
    """Names of folders may be patients'."""

    def refuse(folder: str, *_: object) -> object:
        raise SourceError(f"The folder {folder + 'Doe^Jane/'!r} cannot be listed: no.")

    monkeypatch.setattr(listing, "list_folder", refuse)
    with scene.watching():
        scene.wait(lambda: scene.said)
    (said,) = scene.said
    assert str(scene.folder) in said
    assert "Jane" not in said


def test_a_folder_below_that_cannot_be_listed_holds_no_other(scene, monkeypatch):
    is_shut = threading.Event()
    is_shut.set()

    def list_open(folder: str, *more: Any) -> object:
        if folder.endswith("/shut/") and is_shut.is_set():
            raise SourceError(f"The folder {folder!r} cannot be listed: no.")
        return list_folder(folder, *more)

    monkeypatch.setattr(listing, "list_folder", list_open)
    with scene.watching():
        scene.put("shut/a.jpg", draw_image(44))
        scene.put("b.jpg", draw_image(45))
        scene.wait(scene.rows)
        assert scene.names() == ["b.jpg"]
        scene.wait(lambda: scene.said)
        is_shut.clear()
        scene.wait(lambda: len(scene.rows()) == 2)
    said, over = scene.said
    assert "A folder below" in said and "shut" not in said
    assert over.endswith(said)


def test_a_look_at_many_files_goes_on_beating(scene, monkeypatch):
    """Without that, systemd would end a watch of a large share while it looks for the first time."""
    beats: list[int] = []
    over = threading.Event()
    monkeypatch.setattr(status.Heartbeat, "beat", lambda _: beats.append(1))
    monkeypatch.setattr(listing.Listing, "settle", lambda *_: over.set())
    for number in range(2_500):
        (scene.folder / f"{number}.jpg").touch()
    watch_folder(Classifier(scene.model), scene.options(settle=60), stop=over.is_set)
    # At the start, while the names are listed, and twice while each file is asked for something.
    assert len(beats) == 1 + 2 + 3 + 3


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open")
def test_an_output_that_cannot_be_written_is_waited_for(scene):
    with scene.watching():
        scene.put("a.jpg", draw_image(18))
        scene.wait(scene.rows)
        kept = scene.output.read_bytes()
        scene.output.unlink()
        scene.output.mkdir()  # nobody can append to this
        scene.put("b.jpg", draw_image(19))
        scene.wait(lambda: scene.said)
        scene.output.rmdir()
        scene.output.write_bytes(kept)
        scene.wait(lambda: len(scene.rows()) == 2)
    assert scene.names() == ["a.jpg", "b.jpg"]
    assert "cannot be written" in scene.said[0]


def block_output(scene: Scene) -> Callable[[], None]:
    """Put a folder where the output was; return what puts the output back."""
    kept = scene.output.read_bytes()
    scene.output.unlink()
    scene.output.mkdir()

    def release() -> None:
        scene.output.rmdir()
        scene.output.write_bytes(kept)

    return release


def test_a_file_that_replaces_another_while_the_output_is_blocked_has_a_row(scene):
    with scene.watching(done=str(scene.place / "done")):
        scene.put("a.jpg", draw_image(40))
        scene.wait(lambda: not scene.files())
        release = block_output(scene)
        scene.put("b.jpg", draw_image(41))
        scene.wait(lambda: scene.said)
        scene.put("b.jpg", draw_image(42, height=50))
        release()
        scene.wait(lambda: not scene.files())
    assert scene.names() == ["a.jpg", "b.jpg", "b.jpg"]
    assert (scene.place / "done" / "b.jpg").read_bytes() == draw_image(42, height=50)


@pytest.mark.parametrize("is_other_disk", [False, True])
def test_a_broken_file_that_comes_twice_has_two_rows(scene, monkeypatch, is_other_disk):
    """The older file in --failed is kept for both, or a copy has another time: nothing has grown."""

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if is_other_disk:
        monkeypatch.setattr(moving.Path, "rename", refuse)
        monkeypatch.setattr(moving.shutil, "copystat", lambda *_: None)
    with scene.watching(failed=str(scene.place / "failed"), patience=0.1):
        for count in (1, 2):
            scene.put("a.txt", b"no picture")
            scene.wait(lambda count=count: len(scene.rows()) == count and not scene.files())
        time.sleep(0.6)
    assert scene.names() == ["a.txt", "a.txt"]


def test_one_file_that_cannot_be_moved_is_in_the_way_until_it_can(scene, monkeypatch):
    """Others that arrive and are moved do not end the fault."""
    whole, is_held = watcher.move_aside, threading.Event()
    is_held.set()

    def move(name: str, **places: str) -> moving.Moved:
        if name.endswith("held.jpg") and is_held.is_set():
            raise PermissionError(errno.EACCES, "Permission denied")
        return whole(name, **places)

    monkeypatch.setattr(watcher, "move_aside", move)
    with scene.watching(done=str(scene.place / "done")):
        for name in ("held.jpg", "a.jpg", "b.jpg"):
            scene.put(name, draw_image(43))
            scene.wait(lambda name=name: name in scene.names())
        scene.wait(lambda: scene.files() == ["held.jpg"])
        time.sleep(0.3)
        assert len(scene.said) == 1
        is_held.clear()
        scene.wait(lambda: len(scene.said) == 2)
    assert scene.said[1].endswith(scene.said[0])


def list_as_it_was(scene: Scene, monkeypatch: pytest.MonkeyPatch, frozen: dict[str, os.stat_result]) -> None:
    """List some files as Windows lists one that is open, or has a second name: as they were."""

    def age(entry: Entry) -> Entry:
        old = frozen.get(os.path.relpath(entry.name, scene.folder))
        return entry if old is None else Entry(entry.name, old.st_size, str(old.st_mtime_ns))

    def list_behind(folder: str, *more: Any) -> tuple[list[Entry], tuple[str, ...]]:
        files, folders = list_folder(folder, *more)
        return [age(entry) for entry in files], folders

    monkeypatch.setattr(listing, "list_folder", list_behind)


@pytest.mark.parametrize("moved", [False, True])
def test_a_file_whose_listing_is_behind_has_one_row(scene, monkeypatch, moved):
    path = scene.put("a.jpg", b"begun")
    os.utime(path, ns=(10**18, 10**18))
    list_as_it_was(scene, monkeypatch, {"a.jpg": path.stat()})
    scene.put("a.jpg", draw_image(23))
    with scene.watching():
        scene.wait(scene.rows)
        scene.put("b.jpg", draw_image(24))  # has its row after several more looks at the other
        scene.wait(lambda: "b.jpg" in scene.names())
    assert scene.names() == ["a.jpg", "b.jpg"]
    if moved:
        with scene.watching(done=str(scene.place / "done")):
            scene.wait(lambda: not scene.files())
        assert scene.names() == ["a.jpg", "b.jpg"]
        assert (scene.place / "done" / "a.jpg").read_bytes() == draw_image(23)


def test_a_file_that_is_another_than_its_listing_says_is_not_moved_without_a_row(scene, monkeypatch):
    path = scene.put("a.jpg", draw_image(25))
    with scene.watching():
        scene.wait(scene.rows)
    list_as_it_was(scene, monkeypatch, {"a.jpg": path.stat()})
    scene.put("a.jpg", draw_image(26, height=50))
    with scene.watching(done=str(scene.place / "done")):
        scene.wait(lambda: not scene.files())
    assert scene.names() == ["a.jpg", "a.jpg"]


def test_a_move_that_the_journal_cannot_take_is_noted_later(scene, monkeypatch):
    """Until then nothing is looked at: a file that comes back would be taken for the one that left."""
    append, is_full = LineLog.append, threading.Event()
    is_full.set()

    def fail(log: LineLog, line: dict[str, object]) -> None:
        if "gone" in line and is_full.is_set():
            raise OSError(28, "No space left on device")
        append(log, line)

    monkeypatch.setattr(LineLog, "append", fail)
    done = scene.place / "done"
    with scene.watching(done=str(done)):
        path = scene.put("a.jpg", draw_image(27))
        scene.wait(lambda: scene.said)
        shutil.copy2(done / "a.jpg", path)
        scene.put("b.jpg", draw_image(28))
        time.sleep(0.3)
        assert (scene.names(), path.exists()) == (["a.jpg"], True)
        is_full.clear()
        scene.wait(lambda: len(scene.rows()) == 3)
        scene.wait(lambda: not scene.files())
    assert sorted(scene.names()) == ["a.jpg", "a.jpg", "b.jpg"]
    said, over = scene.said
    assert "No space left on device" in said
    assert over.startswith("over at ")
    assert over.endswith(said)


def test_only_what_was_asked_for(scene):
    with scene.watching(include="*.jpg"):
        scene.put("a.png", draw_image(20, suffix=".png"))
        scene.put("a.jpg", draw_image(20))
        scene.wait(scene.rows)
        time.sleep(0.3)
    assert scene.names() == ["a.jpg"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"output": "scores.parquet"}, UsageError),
        ({"output": "gs://bucket/scores.csv"}, UsageError),
        ({"folder": "gs://bucket/in"}, UsageError),
        ({"poll": 0}, UsageError),
        ({"poll": 0.04}, UsageError),
        ({"poll": 86_401}, UsageError),
        ({"workers": 0}, UsageError),
        ({"batch_size": 0}, UsageError),
        ({"settle": float("nan")}, UsageError),
        ({"folder": "no-such-folder"}, SourceError),
    ],
)
def test_options_that_cannot_be_meant(scene, wrong, error):
    with pytest.raises(error, match="must be|watch works with|watch appends|There is no folder"):
        scene.options(**wrong)


@pytest.mark.parametrize("wrong", [("--workers", "0"), ("--poll", "0")])
def test_the_command_refuses_them_before_it_watches(scene, capsys, monkeypatch, wrong):
    began = []
    monkeypatch.setattr(watcher, "watch_folder", lambda *_, **__: began.append(1))
    command = ["watch", str(scene.folder), "--output", str(scene.output), "--model", str(scene.model)]
    assert run([*command, *wrong]) == 2
    assert capsys.readouterr().err.startswith(f"wetread: {wrong[0]} must be ")
    assert not began


def test_files_may_not_be_moved_to_where_they_are_watched(scene):
    with pytest.raises(UsageError, match="another folder"):
        scene.options(done=f"{scene.folder}/.")


def test_two_watches_of_one_output_are_refused(scene):
    with scene.watching():
        scene.wait(scene.output.exists)
        with pytest.raises(OutputError, match="Another watch is writing"):
            watch_folder(Classifier(scene.model), scene.options(), stop=lambda: True)


@pytest.mark.parametrize(
    ("first", "second"), [("done", "done"), ("done", ""), ("", "failed"), ("failed", "done")]
)
def test_a_watch_that_moves_files_has_its_folder_alone(scene, first, second):
    def moving(option: str) -> dict[str, str]:
        return {option: str(scene.place / option)} if option else {}

    classifier, other = Classifier(scene.model), str(scene.place / "other.csv")
    with scene.watching(**moving(first)):
        scene.wait(scene.output.exists)
        with pytest.raises(SourceError, match=r"Another .wetread watch. works on"):
            watch_folder(classifier, scene.options(output=other, **moving(second)), stop=lambda: True)
        assert not Path(other).exists()
    watch_folder(classifier, scene.options(output=other, **moving(second)), stop=lambda: True)
    assert os.listdir(scene.folder) == []


def test_watches_that_move_nothing_share_a_folder(scene):
    scene.put("a.jpg", draw_image(1))
    other = scene.place / "other.csv"
    with scene.watching():
        scene.wait(scene.rows)
        until = lambda: other.exists() and b"a.jpg" in other.read_bytes()  # noqa: E731
        watch_folder(Classifier(scene.model), scene.options(output=str(other)), stop=until)
    assert other.read_bytes() == scene.output.read_bytes()
    assert os.listdir(scene.folder) == ["a.jpg"]


def test_a_folder_within_a_watched_one_is_refused_where_files_are_moved(scene):
    below = scene.folder / "below"
    below.mkdir()
    options = scene.options(folder=str(below), output=str(scene.place / "other.csv"))
    with scene.watching(done=str(scene.place / "done")):
        scene.wait(scene.output.exists)
        with pytest.raises(SourceError, match="or on a folder around it"):
            watch_folder(Classifier(scene.model), options, stop=lambda: True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_watch_leaves_its_folder_free(scene):
    process = Process(scene, "--done", str(scene.place / "done"))
    scene.wait(scene.output.exists)
    assert process.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert os.listdir(scene.folder) == [".wetread-watch.lock"]
    watch_folder(Classifier(scene.model), scene.options(done=str(scene.place / "done")), stop=lambda: True)
    assert os.listdir(scene.folder) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a folder is writable for root")
def test_a_folder_that_may_only_be_read_is_watched(scene):
    scene.folder.chmod(0o500)
    watch_folder(Classifier(scene.model), scene.options(), stop=lambda: True)
    with pytest.warns(ShareWarning, match="no lock file can be made"):
        watch_folder(Classifier(scene.model), scene.options(done=str(scene.place / "d")), stop=lambda: True)


class Process:
    """`wetread watch` as a process of its own."""

    def __init__(self, scene: Scene, *more: str) -> None:
        command = [sys.executable, "-m", "wetread", "watch", str(scene.folder), "--output", str(scene.output)]
        fast = ["--poll", "0.05", "--settle", "0.15", "--patience", "0.5", "--workers", "1"]
        self.process = subprocess.Popen(
            [*command, "--model", str(scene.model), *fast, *more], stderr=subprocess.PIPE, text=True
        )

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_cleanly(scene, number, code):
    scene.put("a.jpg", draw_image(21))
    process = Process(scene)
    scene.wait(scene.rows)
    assert process.end(number) == (
        code,
        f"wetread: watching {scene.folder} on cpu -> {scene.output}\nwetread: 1 files: 1 ok\n"
        "wetread: stopped: 1 files: 1 ok\n",
    )


def deliver(folder: Path, count: int, chance: random.Random, pause: float) -> None:
    """Let files arrive as they do: at once, in pieces, or renamed in; some of them broken."""
    for index in range(count):
        data = b"broken" if index % 50 == 7 else draw_image(index, height=40, width=40)
        path = folder / f"{index % 7}" / f"x{index:04d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if index % 3 == 0:
            with path.open("wb", buffering=0) as file:
                file.write(data[: len(data) // 2])
                time.sleep(chance.uniform(0, 0.05))
                file.write(data[len(data) // 2 :])
        elif index % 3 == 1:
            (folder / f"{path.name}.tmp").write_bytes(data)
            (folder / f"{path.name}.tmp").rename(path)
        else:
            path.write_bytes(data)
        time.sleep(chance.uniform(0, 2 * pause))


def run_kills(scene: Scene, *, count: int, kills: int, moved: bool) -> None:
    """Kill -9 a watch at random moments while files arrive; at the end every file has one right row."""
    chance = random.Random(kills)
    more = ["--done", str(scene.place / "done"), "--failed", str(scene.folder / "failed")] if moved else []
    sender = threading.Thread(target=deliver, args=(scene.folder, count, chance, 1.5 * kills / count))
    sender.start()
    for _ in range(kills):
        process = Process(scene, *more)
        time.sleep(chance.uniform(0.6, 2.5))
        process.end(signal.SIGKILL)
    sender.join()
    process = Process(scene, *more)
    scene.wait(lambda: len(scene.rows()) >= count, seconds=120)
    time.sleep(1)
    assert process.end(signal.SIGTERM)[0] == 143
    rows = {Path(row["path"]).name: row for row in scene.rows()}
    assert len(scene.rows()) == len(rows) == count
    assert sum(row["status"] == "not_an_image" for row in rows.values()) == len(range(7, count, 50))
    if moved:
        left = [path for path in scene.folder.rglob("*.jpg") if "failed" not in path.parts]
        assert left == []
        shutil.copytree(scene.folder / "failed", scene.place / "done", dirs_exist_ok=True)
    place = scene.place / "done" if moved else scene.folder
    for prediction in Classifier(scene.model).score(place):
        row = rows.pop(Path(prediction.path).name)
        assert row["status"] == prediction.status
        assert [row["p_NORMAL"], row["p_PNEUMONIA"]] == [str(p) for p in prediction.probabilities or ("", "")]
    assert rows == {}


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGKILL")
@pytest.mark.parametrize("moved", [pytest.param(False, marks=pytest.mark.long), True])
def test_kills_lose_nothing_and_double_nothing(scene, moved):
    run_kills(scene, count=60, kills=3, moved=moved)


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGKILL")
@pytest.mark.parametrize("moved", [False, True])
def test_twenty_kills_while_five_hundred_files_arrive(scene, moved):
    run_kills(scene, count=500, kills=20, moved=moved)


def test_a_blank_picture_has_its_row_and_goes_with_the_failed(scene):
    failed = scene.place / "failed"
    scene.put("black.pgm", b"P5 64 64 255\n" + bytes(64 * 64))
    scene.put("whole.jpg", draw_image(0))
    with scene.watching(failed=str(failed)):
        scene.wait(lambda: len(scene.rows()) == 2 and (failed / "black.pgm").exists())
    status = {row["path"].rpartition("/")[2]: (row["status"], row["probability"]) for row in scene.rows()}
    assert status["black.pgm"] == ("blank", "")
    assert status["whole.jpg"][0] == "ok" and scene.files() == ["whole.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="Windows moves no file that is open")
def test_a_file_that_grows_after_it_was_given_up_is_read_again(scene):
    """Its sender still has it open where it is now, in the folder of failed ones."""
    data, failed = draw_image(30, height=200, width=200), scene.place / "failed"
    with scene.watching(failed=str(failed), settle=0.1, patience=0.2):
        with (scene.folder / "slow.jpg").open("wb", buffering=0) as sender:
            sender.write(data[: len(data) // 2])
            scene.wait(lambda: (failed / "slow.jpg").exists())
            sender.write(data[len(data) // 2 :])
        scene.wait(lambda: len(scene.rows()) == 2)
    assert [row["status"] for row in scene.rows()] == ["truncated", "ok"]
    assert scene.names() == ["slow.jpg", "slow.jpg"]
    assert not (failed / "slow.jpg").exists()


def test_empty_folders_of_the_sender_are_removed(scene):
    scene.put("study/series/a.jpg", draw_image(31))
    with scene.watching(done=str(scene.place / "done"), prune=True, prune_seconds=0.3):
        scene.wait(lambda: not scene.files())
    assert (scene.place / "done" / "study" / "series" / "a.jpg").exists()


def test_the_status_says_how_it_is_going(scene, monkeypatch):
    monkeypatch.setattr(status, "EVERY", 0.05)
    place = scene.folder / "status.json"  # even here it is no input
    with scene.watching(status=str(place)):
        scene.put("Doe^Jane.jpg", draw_image(32))
        scene.put("Doe^John.jpg.tmp", draw_image(32))
        scene.wait(lambda: place.exists() and json.loads(place.read_text())["rows_since_start"] == {"ok": 1})
        found = json.loads(place.read_text())
    assert (found["state"], found["last_error"], found["errors_now"]) == ("running", None, [])
    assert found["model"]["sha256"] == Classifier(scene.model).digest
    assert re.fullmatch(r"[\dT:-]+Z", found["last_look"])
    assert "Doe" not in place.read_text()
    assert json.loads(place.read_text())["state"] == "stopped"
    assert scene.names() == ["Doe^Jane.jpg"]


def test_the_status_counts_what_waits(scene, monkeypatch):
    monkeypatch.setattr(status, "EVERY", 0.05)
    place = scene.place / "status.json"
    with scene.watching(status=str(place), settle=60):
        scene.put("a.jpg", draw_image(33))
        scene.put("b.jpg", draw_image(33))
        scene.wait(lambda: place.exists() and json.loads(place.read_text())["waiting"] == 2)
        scene.wait(lambda: json.loads(place.read_text())["oldest_waiting_seconds"] >= 0.2)


def test_columns_on_request(scene):
    scene.put("a.jpg", draw_image(34))
    with scene.watching(columns=("scored_at", "model")):
        scene.wait(scene.rows)
    (row,) = scene.rows()
    assert [*row][-2:] == ["scored_at", "model"]
    assert row["model"] == Classifier(scene.model).digest
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["scored_at"])
    with pytest.raises(OutputError, match="begun with another columns"), scene.watching():
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize(("more", "mode"), [({}, 0o600), ({"mode": 0o640}, 0o640)])
def test_outputs_are_their_owners_alone_unless_asked_for(scene, more, mode):
    scene.put("a.jpg", draw_image(35))
    with scene.watching(**more):
        scene.wait(scene.rows)
    for name in ("scores.csv", "scores.csv.watch"):
        assert stat.S_IMODE((scene.place / name).stat().st_mode) == mode


@pytest.mark.parametrize("mode", ["abc", "9", "1777", "40", "-640"])
def test_modes_that_cannot_be_meant(scene, mode, capsys):
    command = ["watch", str(scene.folder), "--output", str(scene.output), "--model", str(scene.model)]
    assert run([*command, f"--mode={mode}"]) == 2
    assert "--mode takes permissions" in capsys.readouterr().err


def test_the_last_watch_of_a_folder_removes_its_lock_file(tmp_path):
    with lock_folder(str(tmp_path), moves=False):
        with lock_folder(str(tmp_path), moves=False):
            assert (tmp_path / LOCK_NAME).exists()
        assert (tmp_path / LOCK_NAME).exists()
    assert list(tmp_path.iterdir()) == []
    with lock_folder(str(tmp_path), moves=True):
        assert (tmp_path / LOCK_NAME).exists()
    assert list(tmp_path.iterdir()) == []
