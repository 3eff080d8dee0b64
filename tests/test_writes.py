"""What each command writes, by strace: its output, and a temporary folder that is empty again."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.tracing import WRITING, finish, require_strace, trace
from tests.whole_commands import QUICK, SLOW, STOPPED, make_place, make_trained, wait_for_rows

SAMPLE = ("score", "watch", "explain")
# The null device; the names of this process's own threads; semaphores, which exist for a moment.
SYSTEM = re.compile(r"/dev/(null|tty)|/proc/(self|\d+)/task/\d+/comm|(/dev/shm/\S+)")

# The one file beside the inputs: it keeps a second watch from the same folder.
LOCKS = {"watch": "{images}/.wetread-watch.lock"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, toy_model) -> dict[str, Path]:
    return make_place(tmp_path_factory.mktemp("writes"), toy_model)


@pytest.fixture(scope="module")
def trained(place) -> dict[str, Path]:
    return make_trained(place)


def test_strace_sees_what_is_written(tmp_path):
    folder = require_strace(tmp_path)
    code = "import os; open('a', 'w'); os.mkdir('b'); os.rename('a', 'b/c'); os.listdir(); open('b/c')"
    traced = trace(folder, "known", "-c", code, calls=WRITING)
    assert finish(traced) == (0, "")
    assert traced.written() == {str(traced.folder / name) for name in ("a", "b", "b/c")}


def judge(name: str, line: str, places: dict[str, Path], folder: Path) -> None:
    """Run a command and check every name that it wrote to, its home, and its temporary folder."""
    folder = require_strace(folder)
    out, passing = folder / "out", folder / "passing"
    out.mkdir()
    passing.mkdir()
    command = ["-m", "wetread", *shlex.split(line.format(out=out, **places))]
    traced = trace(folder, "command", *command, calls=WRITING, TMPDIR=str(passing))
    if name in STOPPED:
        wait_for_rows(line.format(out=out, **places), name, traced.process)
        traced.interrupt()
    code, said = finish(traced)
    assert "Traceback" not in said
    elsewhere = [path for path in traced.written() if not Path(path).is_relative_to(out)]
    elsewhere = [path for path in elsewhere if not Path(path).is_relative_to(passing)]
    elsewhere = [path for path in elsewhere if path != LOCKS.get(name, "").format(**places)]
    assert [path for path in elsewhere if not SYSTEM.fullmatch(path)] == [], f"exit code {code}"
    assert [path for path in elsewhere if path.startswith("/dev/shm") and Path(path).exists()] == []
    assert [*passing.iterdir(), *traced.home.iterdir(), *traced.folder.iterdir()] == []


@pytest.mark.parametrize("name", SAMPLE)
def test_a_command_writes_only_its_output(place, tmp_path, name):
    judge(name, QUICK[name], place, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in QUICK if name not in SAMPLE])
def test_every_quick_command_writes_only_its_output(place, tmp_path, name):
    judge(name, QUICK[name], place, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", SLOW)
def test_every_command_with_tensorflow_writes_only_its_output(trained, tmp_path, name):
    judge(name, SLOW[name], trained, tmp_path)
