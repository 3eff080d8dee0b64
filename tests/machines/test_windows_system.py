"""What only Windows itself can show: open files, locks, names, consoles."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import draw_image
from wetread.runtime.files.atomic import write_file
from wetread.runtime.files.locks import lock_file

pytestmark = pytest.mark.skipif(os.name != "nt", reason="of Windows")


def wetread(*arguments: object, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command line; nothing is typed into it."""
    command = [sys.executable, "-m", "wetread", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, timeout=300, env=os.environ | more
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pictures" / "一 ö.jpg"
    path.parent.mkdir()
    path.write_bytes(draw_image(1))
    return path


def test_a_file_that_another_program_holds_is_replaced_when_it_lets_go(tmp_path):
    """Python's own `open` lets nobody rename or remove, as many scanners do."""
    path = tmp_path / "scores.csv"
    path.write_bytes(b"old")
    holding = path.open("rb")
    with pytest.raises(PermissionError):
        os.replace(tmp_path / "scores.csv", tmp_path / "other.csv")
    threading.Timer(1.0, holding.close).start()
    write_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_stays_open_keeps_its_rows(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_bytes(b"old")
    with path.open("rb"), pytest.raises(PermissionError):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["scores.csv"]


_HOLD = """
import sys, time
from wetread.runtime.files.locks import lock_file
file = open(sys.argv[1], 'r+b', buffering=0)
print(lock_file(file, shared=len(sys.argv) > 2), flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("shared", [False, True])
def test_a_lock_ends_with_its_process_however_it_ends(tmp_path, shared):
    path = tmp_path / "lock"
    path.write_bytes(b"rows")
    command = [sys.executable, "-c", _HOLD, str(path), *["shared"] * shared]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline().strip() == b"True"
        try:
            with path.open("r+b", buffering=0) as file:
                assert lock_file(file) is False
                assert lock_file(file, shared=True) is shared
        finally:
            other.kill()
    end = time.monotonic() + 30
    with path.open("r+b", buffering=0) as file:
        while not (locked := lock_file(file)) and time.monotonic() < end:
            time.sleep(0.1)
        assert locked
        assert file.read() == b"rows"


def test_names_of_more_than_260_characters_and_in_any_letters(tmp_path, toy_model, picture):
    folder = tmp_path / "\\".join(["Ordner mit langem Namen " * 3] * 5).replace(" \\", "\\").rstrip()
    long = "\\\\?\\" + str(folder)
    os.makedirs(long)
    Path(long, "x.jpg").write_bytes(picture.read_bytes())
    assert len(str(folder)) > 300
    done = wetread("score", tmp_path, "--model", toy_model, "--quiet", PYTHONIOENCODING="utf-8")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    found = {Path(row["path"]).name: row["status"] for row in rows}
    assert (done.returncode, found) == (0, {"x.jpg": "ok", picture.name: "ok"}), done.stderr


@pytest.mark.parametrize("name", ["CON", "NUL", "a.", "pictures:stream"])
def test_names_that_windows_reserves_end_in_a_row_or_a_line(tmp_path, toy_model, name):
    (tmp_path / "a").write_bytes(b"no picture")
    done = wetread("score", tmp_path / name, "--model", toy_model, "--quiet")
    assert done.returncode in (1, 3), done.stdout
    assert b"Traceback" not in done.stderr and b"fault of wetread" not in done.stderr
    assert done.stderr.count(b"\n") == (1 if done.returncode == 1 else 0)


def test_drives_shares_and_a_read_only_file(tmp_path, toy_model, picture):
    picture.chmod(0o444)
    outside = "\\\\?\\" + str(picture.parent)
    share = f"\\\\localhost\\{str(tmp_path)[0]}$" + str(picture.parent)[2:]
    for source in (str(picture.parent), str(picture.parent).replace("\\", "/"), outside):
        done = wetread("score", source, "--model", toy_model, "--quiet")
        assert (done.returncode, done.stdout.count(b",ok,")) == (0, 1), done.stderr
    done = wetread("score", share, "--model", toy_model, "--quiet")  # not every machine shares its drives
    assert done.returncode == 0 or done.stderr.count(b"\n") == 1


def test_an_output_that_may_not_be_written_is_one_line_and_stays(tmp_path, toy_model, picture):
    output = tmp_path / "scores.csv"
    first = wetread("score", picture.parent, "--model", toy_model, "--quiet", "--output", output)
    assert first.returncode == 0, first.stderr
    before = output.read_bytes()
    assert before.endswith(b"\n") and b"\r" not in before
    with output.open("rb"):  # as in a spreadsheet
        held = wetread(
            "score", picture.parent, "--model", toy_model, "--quiet", "--output", output, "--overwrite"
        )
    assert (held.returncode, held.stderr.count(b"\n")) == (1, 1), held.stderr
    assert output.read_bytes() == before


def test_a_list_with_the_line_ends_of_windows(tmp_path, toy_model, picture):
    listed = tmp_path / "list.txt"
    listed.write_bytes(f"{picture}\r\n".encode())
    done = wetread("score", "--from-file", listed, "--model", toy_model, "--quiet")
    assert (done.returncode, done.stdout.count(b",ok,")) == (0, 1), done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_console_of_few_letters(toy_model, picture, encoding):
    done = wetread("score", picture, "--model", toy_model, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


def test_control_break_ends_a_watch_with_its_rows_written(tmp_path, toy_model, picture):
    output = tmp_path / "watched.csv"
    command = [sys.executable, "-m", "wetread", "watch", str(picture.parent), "--model", str(toy_model)]
    process = subprocess.Popen(
        [*command, "--output", str(output), "--poll", "0.1", "--settle", "0.2"],
        creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
    )
    end = time.monotonic() + 120
    while not (output.exists() and output.read_bytes().count(b"\n") == 2) and time.monotonic() < end:
        time.sleep(0.2)
    import signal

    try:
        process.send_signal(signal.CTRL_BREAK_EVENT)
    except (OSError, SystemError) as error:
        process.kill()
        process.wait()
        pytest.skip(f"this system sends no Ctrl-Break to a process without a console: {error}")
    assert process.wait(60) in (130, 143, 149)
    assert output.read_bytes().count(b"\n") == 2
