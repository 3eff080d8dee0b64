"""Commands without standard streams: the same files and exit codes as with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.whole_commands import QUICK, SLOW, make_place, make_trained, run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell to close a stream")

CLOSED = {"no error": "2>&-", "no output": ">&-", "neither": ">&- 2>&-", "none": "<&- >&- 2>&-"}
SAMPLE = ("score jsonl", "usage")


@pytest.fixture(scope="module")
def place(tmp_path_factory, toy_model) -> dict[str, Path]:
    return make_place(tmp_path_factory.mktemp("streams"), toy_model)


@pytest.fixture(scope="module")
def trained(place) -> dict[str, Path]:
    return make_trained(place)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): content_of(path) for path in folder.rglob("*") if path.is_file()}


def content_of(path: Path) -> bytes:
    """Return what a file holds, but for what depends on the time that something took.

    The record behind a shard's rows tells the time; the form of the demo's int8 model is chosen by speed.
    """
    content = path.read_bytes()
    if path.parent.name == "demo" and path.suffix == ".csv":
        return b"\n".join(b",".join(line.split(b",")[:2]) for line in content.splitlines())
    if path.suffix == ".shard":
        rows, _, record = content.rstrip(b"\n").rpartition(b"\n")
        assert record.startswith(b'{"record":')
        return rows
    return content


# What tells the time, a duration, a random name or a folder of its own: there the names are compared.
VARIES = (
    ".json",
    ".journal",
    ".html",
    ".onnx",
    ".keras",
    ".zip",
    ".log",
    ".png",
    ".dcm",
    ".node",
    ".watch",
    ".journal",
)


def judge(line: str, places: dict[str, Path], folder: Path, closing: str) -> None:
    """Run a command with its streams open and closed, and compare what is left."""
    found = []
    for index, redirection in enumerate(("", closing)):
        out = folder / "out"  # the same name twice: rows and lists hold it
        out.mkdir()
        code = run(line.format(out=out, **places), redirection)
        files = files_of(out.rename(folder / str(index)))
        found.append((code, {name: "" if name.endswith(VARIES) else files[name] for name in sorted(files)}))
    assert found[0] == found[1]


@pytest.mark.parametrize("closing", CLOSED)
@pytest.mark.parametrize("name", SAMPLE)
def test_the_same_files_and_exit_codes(place, tmp_path, name, closing):
    judge(QUICK[name], place, tmp_path, CLOSED[closing])


@pytest.mark.long
@pytest.mark.parametrize("closing", CLOSED)
@pytest.mark.parametrize("name", [name for name in QUICK if name not in SAMPLE])
def test_the_same_of_every_quick_command(place, tmp_path, name, closing):
    judge(QUICK[name], place, tmp_path, CLOSED[closing])


@pytest.mark.long
@pytest.mark.parametrize("closing", CLOSED)
@pytest.mark.parametrize("name", SLOW)
def test_the_same_of_every_command_with_tensorflow(trained, tmp_path, name, closing):
    judge(SLOW[name], trained, tmp_path, CLOSED[closing])


def test_every_command_is_run():
    from wetread.cli import COMMANDS

    assert {name.split()[0] for name in (*QUICK.values(), *SLOW.values())} >= set(COMMANDS)


@pytest.mark.parametrize(
    "line", ["score {images} --model {model}", "explain {image} --model {model} --format json"]
)
def test_rows_with_nowhere_to_go_are_an_error(place, tmp_path, line):
    command = f"exec {sys.executable} -m wetread {line.format(**place)} >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, timeout=120, check=False)
    words = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert words[-1].startswith("wetread: Standard output is closed, so the rows cannot be written.")


def test_what_a_library_prints_stays_out_of_the_next_file(tmp_path):
    code = (
        "import os, sys\n"
        "from wetread.standard_streams import open_missing\n"
        "open_missing()\n"
        "assert sys.stderr is not None and sys.stdout is not None and sys.stdin is not None\n"
        "print('lost', file=sys.stderr, flush=True)\n"
        f"with open({str(tmp_path / 'rows')!r}, 'w') as file:\n"
        "    assert file.fileno() > 2\n"
        "    os.write(2, b'a library'); file.write('a row')\n"
        "os.system('echo child >&2')\n"
    )
    done = subprocess.run(["sh", "-c", f'exec {sys.executable} -c "$0" <&- >&- 2>&-', code], timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "rows").read_text() == "a row"
