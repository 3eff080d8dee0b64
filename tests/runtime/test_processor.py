"""A processor that numpy's wheels do not run on is one line, not an illegal instruction."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wetread.errors import SetupError
from wetread.runtime import processor

LINES = "processor : 0\nflags\t\t: fpu sse2 ssse3 {more}\n\nprocessor : 1\nflags : all sse4_1 sse4_2\n"
# Stands in for the check, and says what was imported before it was asked.
REFUSED = """
import sys, types
from wetread.errors import SetupError
def check():
    raise SetupError("too old" + str(sorted({"numpy", "cv2", "onnxruntime"} & set(sys.modules))))
module = types.ModuleType("wetread.runtime.processor")
module.check_processor = check
sys.modules["wetread.runtime.processor"] = module
"""


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("more", "missing"),
    [("sse4_1 sse4_2", ()), ("sse4_1", ("sse4_2",)), ("", ("sse4_1", "sse4_2"))],
)
def test_what_linux_lists(tmp_path, monkeypatch, more, missing):
    (tmp_path / "cpuinfo").write_text(LINES.format(more=more))
    flags = processor.read_flags(str(tmp_path / "cpuinfo"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(processor, "name_architecture", lambda: "x86_64")
    monkeypatch.setattr(processor, "_ask_c_library", lambda: None)
    monkeypatch.setattr(processor, "read_flags", lambda: flags)
    assert processor.find_missing() == missing
    if missing:
        with pytest.raises(SetupError, match=r"lacks .*SSE4\.2, so numpy.* Use a machine with SSE4"):
            processor.check_processor()
    else:
        processor.check_processor()


def test_nobody_is_refused_who_cannot_be_asked(tmp_path, monkeypatch):
    assert processor.read_flags(str(tmp_path / "absent")) is None
    (tmp_path / "arm").write_text("processor : 0\nFeatures : fp asimd\n")
    assert processor.read_flags(str(tmp_path / "arm")) is None
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(processor, "_ask_c_library", lambda: None)
    monkeypatch.setattr(processor, "read_flags", lambda: None)
    assert processor.find_missing() == ()


def test_the_c_library_and_linux_agree_on_this_processor():
    flags, told = processor.read_flags(), processor._ask_c_library()
    if flags is None or told is None:
        pytest.skip("no /proc/cpuinfo with flags, or a C library that tells nothing")
    assert told == flags & told and {"ssse3", "sse4_1", "sse4_2"} & flags == told


@pytest.mark.parametrize("command", ["doctor", "verify", "score", "train", "export"])
def test_every_command_asks_before_it_imports_numpy(command):
    done = run(
        sys.executable, "-c", f"{REFUSED}from wetread.cli import run; sys.exit(run([{command!r}, 'x']))"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "wetread: too old[]\n")


def test_the_library_asks_before_it_imports_numpy():
    done = run(sys.executable, "-c", f"{REFUSED}from wetread import Classifier")
    assert done.stderr.splitlines()[-1] == "wetread.errors.SetupError: too old[]"


def test_an_emulated_processor_without_sse4():
    emulator = shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("no qemu-x86_64-static: apt-get install qemu-user-static")
    done = run(emulator, "-cpu", "Conroe", Path(sys.executable), "-m", "wetread", "verify")
    assert done.returncode == 1
    assert done.stderr.startswith("wetread: This processor lacks ")
    assert done.stderr.count("\n") == 1
