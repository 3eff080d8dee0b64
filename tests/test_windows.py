"""What would break on Windows, as far as Linux can tell: no test here replaces a run there."""

from __future__ import annotations

import ast
import ntpath
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from wetread.runtime.files import locks
from wetread.runtime.files import long_paths as paths

PACKAGE = Path(__file__).parents[1] / "wetread"
POSIX = ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "posix", "spwd", "readline")
# What the modules `os` and `signal` lack there. Those that a line asks for first are allowed, by file.
LACKING = {
    *("fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "setsid", "killpg", "getpgid", "sysconf"),
    *("statvfs", "sched_getaffinity", "mkfifo", "chroot", "chown", "lchown", "getloadavg", "wait", "uname"),
    *("nice", "sync", "fdatasync", "pread", "pwrite", "posix_fallocate", "O_NONBLOCK", "O_DIRECTORY"),
    *("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGSTOP", "setitimer"),
}
ASKED_FIRST = {
    ("runtime/machine.py", "sysconf"),
    ("runtime/processor.py", "uname"),
    ("runtime/threads.py", "sched_getaffinity"),
}


def test_nothing_asks_for_a_posix_module_as_it_is_imported():
    """Every module is imported with those modules taken away from wetread, and from wetread alone."""
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__main__.py"
    ]
    code = f"""
import builtins, importlib
real, posix, found = builtins.__import__, {POSIX!r}, []
def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    if name.split('.')[0] in posix and (globals or {{}}).get('__name__', '').startswith('wetread'):
        found.append((globals['__name__'], name))
        raise ImportError(name)
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = guarded
for name in {names!r}:
    importlib.import_module(name)
assert found == [], found
from wetread.runtime.files.locks import lock_file
try:
    lock_file(open({os.devnull!r}, 'rb'))
except ImportError:
    print('it can fail')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "it can fail\n"), done.stderr


def test_nothing_calls_what_windows_lacks():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if is_named and node.value.id in ("os", "signal") and node.attr in LACKING:
                found.add((path.relative_to(PACKAGE).as_posix(), node.attr))
    assert found == ASKED_FIRST


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("D:\\röntgen\\a.dcm", "D:\\röntgen\\a.dcm"),
        ("D:/" + "x/" * 130 + "a.dcm", "\\\\?\\D:\\" + "x\\" * 130 + "a.dcm"),
        ("\\\\pacs\\share\\" + "y" * 240, "\\\\?\\UNC\\pacs\\share\\" + "y" * 240),
        ("\\\\?\\D:\\" + "z" * 300, "\\\\?\\D:\\" + "z" * 300),
        ("\\\\?\\D:\\folder/a.dcm", "\\\\?\\D:\\folder\\a.dcm"),
        ("D:\\" + "x" * 244, "D:\\" + "x" * 244),
        ("D:\\" + "x" * 245, "\\\\?\\D:\\" + "x" * 245),
    ],
)
def test_long_names_are_brought_into_the_form_without_a_limit(name, expected):
    assert paths.lengthen(name) == expected


def test_a_name_is_left_alone_elsewhere():
    assert paths.reach("x" * 300) == ("x" * 300 if os.name != "nt" else paths.lengthen("x" * 300))


def test_long_names_are_reached_wherever_files_are_listed_and_read(tmp_path, toy_model, monkeypatch):
    """As if this system took short names alone: `reach` gives another name for the same folder."""
    from wetread import Classifier
    from wetread.runtime.files import reading as files
    from wetread.runtime.sources import local as sources
    from wetread.runtime.watch import arrivals

    real = tmp_path / "real"
    real.mkdir()
    (real / "a.txt").write_bytes(b"no picture")
    typed = str(tmp_path / "typed")

    def go_elsewhere(name: str) -> str:
        return name.replace(typed, str(real))

    for module in (sources, files, arrivals):
        monkeypatch.setattr(module, "reach", go_elsewhere)
    (row,) = Classifier(toy_model).score(typed)
    assert (row.path, row.status) == (f"{typed}/a.txt", "not_an_image")
    assert arrivals.sign_file(row.path) is not None


@pytest.mark.parametrize("number", [13, 0], ids=["Windows", "Wine"])
def test_a_file_that_another_process_locks_is_told_on_windows_too(tmp_path, monkeypatch, number):
    asked = []

    def refuse(descriptor: int, mode: int, count: int) -> None:
        asked.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, count))
        raise OSError(number, "Permission denied")

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=refuse))
    with (tmp_path / "x").open("a+b", buffering=0) as file:
        file.write(b"rows")
        assert locks.lock_file(file, patient=False) is False
        assert file.tell() == 4
        assert locks.lock_file(file, shared=True, patient=False) is False
    assert asked == [(1 << 40, 2, 64), *(((1 << 40) + at, 2, 1) for at in range(64))]


@pytest.mark.parametrize(
    "command", [["inspect"], pytest.param(["doctor", "--model"], marks=pytest.mark.long)], ids=lambda c: c[0]
)
def test_a_name_that_a_console_cannot_show_does_not_end_a_command(tmp_path, toy_model, command):
    """Windows' own pages of letters have 256."""
    model = tmp_path / "模型.onnx"
    model.write_bytes(toy_model.read_bytes())
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    whole = [sys.executable, "-m", "wetread", *command, str(model)]
    done = subprocess.run(whole, capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u6a21\\u578b.onnx" in done.stdout


def test_lists_of_names_may_have_the_line_ends_of_windows(tmp_path):
    from wetread.runtime.sources.name_list import read_name_list

    (tmp_path / "list.txt").write_bytes("D:\\a b.dcm\r\nD:\\ü.dcm\r\n\r\n".encode())
    assert list(read_name_list(str(tmp_path / "list.txt"))) == ["D:\\a b.dcm", "D:\\ü.dcm"]


def test_drive_letters_are_no_buckets_and_no_wildcards():
    from wetread.runtime.entries import is_bucket_location
    from wetread.runtime.files.globs import is_wildcard

    for name in ("C:\\images", "C:/images", "\\\\pacs\\share", "\\\\?\\D:\\x"):
        assert not is_bucket_location(name)
    assert not is_wildcard("C:\\images")
    assert ntpath.isabs("C:/images")


def find_text_calls(path: Path) -> Iterator[tuple[str, set[str | None]]]:
    """Where a file opens text: the line, and the names of the arguments that are given."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) in ("os.open", "installed.read_text"):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg for keyword in node.keywords}
        modes = [found.value for found in node.args if isinstance(found, ast.Constant)]
        if name == "open" and isinstance(node.func, ast.Attribute) and node.args and not modes:
            continue  # of something else than a path
        # Only bytes may be unbuffered.
        is_binary = "buffering" in given or any(isinstance(mode, str) and "b" in mode for mode in modes)
        if name in ("write_text", "read_text") or (name == "open" and not is_binary):
            yield f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno}", given


def test_text_has_one_encoding():
    """Windows would take a code page of 256 letters where nothing else is said."""
    calls = [call for path in PACKAGE.rglob("*.py") for call in find_text_calls(path)]
    assert len(calls) > 20
    assert [place for place, given in calls if "encoding" not in given] == []
