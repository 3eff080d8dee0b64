"""No rows beside another run's record, wherever a run fails or is killed."""

from __future__ import annotations

import ast
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import wetread
from wetread.errors import OutputError
from wetread.runtime.entries import Entry
from wetread.runtime.files import atomic as renames
from wetread.runtime.files.atomic import copy_file, replace_file, write_file
from wetread.runtime.scoring.batches import Chunk, Seconds
from wetread.runtime.scoring.output import Output, check_free, open_output
from wetread.runtime.scoring.row_encoding import encode_chunk
from wetread.runtime.scoring.rows import Prediction

LABELS = ("NORMAL", "PNEUMONIA")
RENAMING = ("replace", "rename", "remove", "fsync")


class Killed(BaseException):
    """The process is gone: nothing that it would have done follows."""


def score(path: Path, run: str, *, resume: bool = False) -> None:
    """Write an output of one row, which names its run, as does its record."""
    kind = path.suffix[1:]
    output = Output(str(path), labels=LABELS, kind=kind, identity={"run": run})
    check_free(output, resume=resume, overwrite=not resume)
    with open_output(output, resume=resume):
        if not output.progress.rows:
            row = Prediction(run, "ok", LABELS[0], 1.0, (1.0, 0.0))
            output.write_rows(
                encode_chunk(Chunk([Entry(run)], [row], Seconds(0, 0, 0)), output.labels, kind=output.kind)
            )
        output.finish({"run": run})


def read_pair(path: Path) -> tuple[str | None, str | None]:
    """Whose rows stand there, and whose record."""
    place = Path(f"{path}.run.json")
    rows = None
    if path.exists():
        rows = next(run for run in ("old", "new") if run.encode() in path.read_bytes())
    return rows, json.loads(place.read_text())["run"] if place.exists() else None


def on_call(monkeypatch, act: Callable[[str, int], None]) -> list[str]:
    """Call `act` with each renaming, removal and fsync before it is done; return those that were."""
    calls: list[str] = []

    def wrap(name: str, real: Callable) -> Callable:
        def call(*args, **options):
            act(name, len(calls))
            calls.append(name)
            return real(*args, **options)

        return call

    for name in RENAMING:
        monkeypatch.setattr(os, name, wrap(name, getattr(os, name)))
    return calls


def kill_before(monkeypatch, number: int) -> list[str]:
    """Die before a call, and let nothing after it happen either: a kill runs no clean-up."""

    def act(_name: str, done: int) -> None:
        if done >= number:
            raise Killed

    return on_call(monkeypatch, act)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("begun", [None, "old", "hidden"])
def test_a_kill_at_any_point_leaves_rows_with_their_own_record(tmp_path, suffix, begun):
    """`hidden`: an earlier run was killed while the old output had no name."""
    for number in range(100):
        path = tmp_path / f"{number}" / f"s.{suffix}"
        path.parent.mkdir()
        if begun is not None:
            score(path, "old")
        if begun == "hidden":
            path.rename(renames.hide(str(path), ".old.tmp"))
        with pytest.MonkeyPatch.context() as patched:
            calls = kill_before(patched, number)
            try:
                score(path, "new")
                break
            except Killed:
                pass
        rows, record = read_pair(path)
        assert rows is None or rows == record, calls
        output = Output(str(path), labels=LABELS, kind=suffix, identity={"run": "new"})
        if not output.is_finished() or rows == "old":
            score(path, "new", resume=True)
        assert read_pair(path) == ("new", "new"), calls
        left = {name.name for name in path.parent.iterdir()}
        assert left - {f"{path.name}.part.state"} == {path.name, f"{path.name}.run.json"}, calls
    assert calls.count("replace") == (2 if begun != "old" else 3)
    assert number == len(calls) >= 6


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("begun", "failing"), [(None, 0), (None, 1), ("old", 0), ("old", 1), ("old", 2)])
def test_a_failure_at_any_renaming_puts_everything_back(tmp_path, monkeypatch, suffix, begun, failing):
    path = tmp_path / f"s.{suffix}"
    if begun is not None:
        score(path, "old")
    renamings = iter(range(9))

    def act(name: str, _done: int) -> None:
        if name == "replace" and next(renamings, None) == failing:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(renames, "_PAUSES", ())  # on Windows the next try would succeed
        on_call(patched, act)
        with pytest.raises(OutputError, match=r"Permission denied.*Close the program that has.*is kept"):
            score(path, "new")
    assert read_pair(path) == (begun, begun)
    score(path, "new", resume=True)
    assert read_pair(path) == ("new", "new")
    assert {name.name for name in tmp_path.iterdir()} == {path.name, f"{path.name}.run.json"}


@pytest.mark.parametrize("held", ["s.csv", "s.csv.run.json", "s.csv.part"])
def test_what_another_program_holds_leaves_the_output_with_its_record(tmp_path, monkeypatch, held):
    """As on Windows, where a spreadsheet lets nobody rename or replace what it shows."""
    path = tmp_path / "s.csv"
    score(path, "old")
    before = path.read_bytes(), Path(f"{path}.run.json").read_bytes()
    real = os.replace

    def replace(source, target):
        if os.fspath(tmp_path / held) in (os.fspath(source), os.fspath(target)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        with pytest.raises(OutputError, match="Close the program that has it open"):
            score(path, "new")
    assert (path.read_bytes(), Path(f"{path}.run.json").read_bytes()) == before
    score(path, "new", resume=True)
    assert read_pair(path) == ("new", "new")


def test_a_disk_that_will_not_take_the_record_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "s.csv"
    score(path, "old")
    synced = []

    def fsync(descriptor):
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(OutputError, match="No space left"):
            score(path, "new")
    assert read_pair(path) == ("old", "old")


def test_a_folder_of_that_name_stays(tmp_path):
    path = tmp_path / "s.csv"
    (path / "kept").mkdir(parents=True)
    with pytest.raises(OutputError, match="a folder"):
        score(path, "new")
    (tmp_path / "whole").write_text("new")
    with pytest.raises(IsADirectoryError):  # one that came during the run
        renames.publish(str(tmp_path / "whole"), str(path), "{}")
    assert (path / "kept").is_dir() and (tmp_path / "whole").is_file()
    assert not Path(f"{path}.run.json").exists()


def test_what_is_not_utf8_in_an_old_record_is_put_back_as_it_was(tmp_path, monkeypatch):
    path, place = tmp_path / "s.csv", tmp_path / "s.csv.run.json"
    path.write_text("old")
    place.write_bytes(b"\xff\r\n{")
    (tmp_path / "whole").write_text("new")
    real = os.replace

    def replace(source, target):
        if os.path.basename(source) == "whole":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError):
        renames.publish(str(tmp_path / "whole"), str(path), "{}")
    assert (path.read_text(), place.read_bytes()) == ("old", b"\xff\r\n{")


@pytest.mark.parametrize("write", [write_file, lambda path, data: copy_file(data, str(path), overwrite=True)])
@pytest.mark.parametrize("begun", [False, True])
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path, write, begun):
    (tmp_path / "new").write_bytes(b"new")
    data = b"new" if write is write_file else tmp_path / "new"
    for number in range(20):
        path = tmp_path / str(number) / "x.json"
        path.parent.mkdir()
        if begun:
            path.write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patched:
            calls = kill_before(patched, number)
            try:
                write(path, data)
                break
            except Killed:
                pass
        found = path.read_bytes() if path.exists() else None
        assert found in ((b"old" if begun else None), b"new"), calls
        assert all(name.startswith(".") for name in {*os.listdir(path.parent)} - {"x.json"}), calls
    assert number >= 3
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["x.json"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "x.json"
    path.write_bytes(b"old")

    def act(name: str, _done: int) -> None:
        if name == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        on_call(patched, act)
        with pytest.raises(OSError, match="No space left"):
            write_file(path, b"new")
        with pytest.raises(OSError, match="No space left"):
            copy_file(path, str(path), overwrite=True)
    assert (os.listdir(tmp_path), path.read_bytes()) == (["x.json"], b"old")


def test_a_staged_file_keeps_its_suffix_and_is_hidden(tmp_path):
    with replace_file(tmp_path / "model.keras") as staged:
        assert staged.name.startswith(".") and staged.suffix == ".keras"
        staged.write_bytes(b"x")
    assert os.listdir(tmp_path) == ["model.keras"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows, pipes have other names")
def test_links_and_pipes_still_stand_after_a_write(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"new"
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"new")
    reader.join()
    assert (pipe.is_fifo(), read) == (True, [b"new"])
    code = "from wetread.runtime.files.atomic import write_file; write_file('/dev/stdout', b'new')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout == b"new"


# Runs without wetread; moves a download within its own temporary folder.
# The acceptance plays a sender of files.
NOT_OUTPUTS = {"bundle/acceptance/watching.py", "bundle/installer/install.py", "bundle/wheels.py"}


def test_only_the_files_room_gives_files_their_names():
    """A second way of writing a file is one without a sync, or one that leaves half a file."""
    package, found = Path(wetread.__file__).parent, set()
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        if not name.startswith("runtime/files/") and name not in NOT_OUTPUTS:
            found |= {f"{name}:{line}" for line in find_renamings(path.read_text(encoding="utf-8"))}
    assert found == set()


def find_renamings(code: str) -> list[int]:
    """The lines that rename, link or sync: `os.replace(a, b)` and `path.replace(b)`, but not a text's."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [
        node.lineno
        for node in calls
        if isinstance(node.func, ast.Attribute)
        and (
            (
                getattr(node.func.value, "id", "") == "os"
                and node.func.attr in ("replace", "rename", "renames", "link", "fsync", "fdatasync")
            )
            or node.func.attr in ("rename", "hardlink_to")
            or (node.func.attr == "replace" and len(node.args) == 1 and not node.keywords)
        )
    ]


def test_renamings_are_found():
    code = "os.fsync(1)\npath.replace(b)\ntext.replace(a, b)\nreplace(a, x=1)\na.rename(b)\nos.link(a, b)"
    assert find_renamings(code) == [1, 2, 5, 6]


@pytest.mark.parametrize(("refusals", "windows"), [(0, True), (3, True), (99, True), (1, False)])
def test_a_file_that_a_scanner_holds_for_a_moment_is_renamed_after_it(
    tmp_path, monkeypatch, refusals, windows
):
    """Windows lets nobody replace a file that another program has open; there alone it is tried again."""
    path, paused, left = tmp_path / "x.csv", [], iter(range(refusals))
    path.write_bytes(b"old")
    replace = os.replace

    def refuse(source, target):
        if next(left, None) is not None:
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(renames, "_IS_WINDOWS", windows)
    monkeypatch.setattr(renames.time, "sleep", paused.append)
    monkeypatch.setattr(renames.os, "replace", refuse)
    if refusals == 99 or not windows:
        with pytest.raises(PermissionError):
            write_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert sum(paused) == (pytest.approx(6.35) if windows else 0)
    else:
        write_file(path, b"new")
        assert (path.read_bytes(), len(paused)) == (b"new", refusals)
    assert [each.name for each in tmp_path.iterdir()] == ["x.csv"]
