"""What nobody foresaw: one line, details in a file of the owner's, and what was scored kept."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

# Breaks a place in wetread for a whole command, as a bug would.
BREAK = """
import sys
import wetread.{module} as module
def broken(*arguments, **options):
    secret = "Doe^Jane"
    raise {error}
module.{name} = broken
from wetread.cli import main
main()
"""


def broken(*arguments: object, at: str, error: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in which the function `at` raises `error`."""
    module, _, name = at.rpartition(".")
    code = BREAK.format(module=module, name=name, error=error)
    environment = {**os.environ, **environment}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def test_a_fault_is_one_line_and_a_file_of_its_owners(toy_model, tmp_path):
    done = broken(
        "inspect",
        toy_model,
        at="runtime.model.description.inspect_model",
        error="KeyError('x')",
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("wetread: this is a fault of wetread, not of your files: KeyError.")
    (path,) = tmp_path.iterdir()
    assert str(path) in line
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name == "nt"
    details = path.read_text()
    assert "Traceback" in details and "KeyError: 'x'" in details
    assert re.search(r"^wetread \S+ inspect, Python ", details)
    assert str(toy_model) not in details


def test_details_on_standard_error(toy_model, tmp_path):
    done = broken(
        "inspect",
        toy_model,
        at="runtime.model.description.inspect_model",
        error="KeyError('x')",
        TMPDIR=str(tmp_path),
        WETREAD_TRACEBACK="1",
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr and done.stderr.splitlines()[-1].startswith("wetread: this is a fault")
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_saved(toy_model):
    at, error = "runtime.model.description.inspect_model", "KeyError('x')"
    done = broken("inspect", toy_model, at=at, error=error, TMPDIR="/nowhere", TEMP="", TMP="")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ("MemoryError()", 1, "out of memory"),
        ("KeyboardInterrupt()", 130, ""),
        ("RecursionError()", 1, "a fault of"),
    ],
)
def test_other_ends(toy_model, error, code, words):
    done = broken("inspect", toy_model, at="runtime.model.description.inspect_model", error=error)
    assert done.returncode == code
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_fault_in_inference_keeps_what_was_scored(toy_model, image_folder, tmp_path):
    output = tmp_path / "s.csv"
    arguments = ["score", image_folder, "--model", toy_model, "--output", output, "--batch-size", "1"]
    code = """
import wetread.runtime.model.session as module
whole, calls = module.ModelSession.classify, []
def classify(self, images):
    calls.append(1)
    if len(calls) == 8: raise AttributeError("a bug")
    return whole(self, images)
module.ModelSession.classify = classify
from wetread.cli import main
main()
"""
    command = [sys.executable, "-c", code, *map(str, arguments), "--workers", "1", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "AttributeError" in line and line.endswith(
        "The work done so far is kept: continue it with --resume."
    )
    assert len(Path(f"{output}.part").read_bytes().splitlines()) > 1
    whole = [sys.executable, "-m", "wetread", *map(str, arguments), "-q"]
    assert subprocess.run([*whole, "--resume"], timeout=120).returncode == 0
    resumed = output.read_bytes()
    assert subprocess.run([*whole, "--overwrite"], timeout=120).returncode == 0
    assert output.read_bytes() == resumed


# A thread of a library, and an object that fails as it is tidied up: nobody can catch what they raise.
BESIDE = """
import threading, wetread.runtime.model.description as module
whole = module.inspect_model
class Untidy:
    def __del__(self): raise LookupError("Doe^Jane")
def inspect_model(*arguments):
    for _ in range(2):
        thread = threading.Thread(target=[].pop, name="counter")
        thread.start()
        thread.join()
        Untidy()
    return whole(*arguments)
module.inspect_model = inspect_model
from wetread.cli import main
main()
"""


def test_what_fails_beside_the_work_is_one_line_of_each_kind(toy_model, tmp_path):
    command = [sys.executable, "-c", BESIDE, "inspect", str(toy_model)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0 and "labels" in done.stdout
    first, second = done.stderr.splitlines()
    start = "wetread: the command continues, but this is a fault of wetread, not of your files: "
    assert first.startswith(f"{start}IndexError.") and second.startswith(f"{start}LookupError.")
    assert "IndexError: pop from empty list" in "".join(path.read_text() for path in tmp_path.iterdir())


def test_the_hooks_of_a_program_that_calls_the_command_line_come_back(toy_model, capsys):
    import threading

    from wetread.cli import run

    before = threading.excepthook, sys.unraisablehook
    assert run(["inspect", str(toy_model)]) == 0
    assert (threading.excepthook, sys.unraisablehook) == before


def test_a_slow_image_is_a_line_of_the_command(toy_model, image_folder, tmp_path, monkeypatch, capsys):
    from wetread.cli import run

    monkeypatch.setattr("wetread.runtime.scoring.batches._SLOW_SECONDS", -1.0)
    output = tmp_path / "s.csv"
    run(["score", str(image_folder), "--model", str(toy_model), "--output", str(output)])
    slow = [line for line in capsys.readouterr().err.splitlines() if " to decode. Check that file" in line]
    assert len(slow) == len(set(slow)) == len(output.read_text().splitlines()) - 1
    assert all(line.startswith("wetread: ") for line in slow)
