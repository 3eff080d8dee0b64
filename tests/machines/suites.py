"""The runtime's own tests on another machine, from a copy of the tests and the installed wheel."""

from __future__ import annotations

import compileall
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.machines.machine import ROOT, Machine

_DEPENDENCIES = (
    *("pytest", "hypothesis", "pillow", "onnx", "packaging", "pip", "cyclonedx-python-lib[json-validation]"),
    *("cryptography", "google-cloud-storage", "google-crc32c", "starlette", "uvicorn"),
)
# Rooms that need nothing of training's, each in a process of its own, for a crash there ends only that one.
ROOMS = (
    "tests/machines/test_windows_system.py",
    "tests/machines/test_golden.py",
    "tests/runtime/files",
    "tests/runtime/images",
    "tests/runtime/model",
    "tests/runtime/scoring",
    "tests/runtime/sources",
    "tests/runtime/shards",
    "tests/runtime/watch",
    "tests/runtime/gcs",
    "tests/runtime/test_doctor.py tests/runtime/test_entries.py tests/runtime/test_explain.py "
    "tests/runtime/test_machine.py tests/runtime/test_processor.py tests/runtime/test_threads.py",
    "tests/bundle",
    "tests/review/test_app.py tests/review/test_journal.py tests/review/test_request_guard.py "
    "tests/review/test_worklist.py",
    "tests/test_cli.py tests/test_windows.py tests/test_standard_streams.py",
)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The rooms whose tests a machine runs, of which one in `every`, and the seconds for all of them.

    `options`: pytest's; `examples`: of each property. Nothing is begun after `seconds`.
    """

    rooms: tuple[str, ...]
    every: int
    seconds: float
    options: tuple[str, ...] = ()
    examples: int = 100


SUITES = {
    "windows": Suite(rooms=ROOMS, every=5, seconds=420, examples=20),
    # An emulator needs minutes to begin a process that imports the tests: one for all.
    "arm64": Suite(
        rooms=(" ".join(ROOMS[2:]),), every=60, seconds=480, options=("--assert=plain",), examples=5
    ),
}
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error|errors|deselected)")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Ran:
    """How many tests ended how, and which failed."""

    counts: dict[str, int]
    failed: tuple[str, ...]


def run_suites(machine: Machine, suite: Suite) -> Ran:
    """Run a suite on a machine."""
    if not (machine.folder / "tests-site").exists():
        machine.install(*_DEPENDENCIES, into="tests-site")
    _copy_checkout(machine)
    end = time.monotonic() + suite.seconds
    counts: dict[str, int] = {}
    failed: list[str] = []
    for room in suite.rooms:
        left = end - time.monotonic()
        if left <= 0:
            counts["room not begun"] = counts.get("room not begun", 0) + 1
            continue
        found = _run_one(machine, room.split(), suite, seconds=left)
        failed += found.failed
        for kind, count in found.counts.items():
            counts[kind] = counts.get(kind, 0) + count
    return Ran(counts, tuple(failed))


def _copy_checkout(machine: Machine) -> None:
    checkout = machine.folder / "checkout"
    shutil.rmtree(checkout, ignore_errors=True)
    for name in ("tests", "docs", "deploy", "benchmarks"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, checkout / name)
    # An emulator takes minutes for it.
    compileall.compile_dir(checkout, quiet=2, stripdir=str(checkout), prependdir=machine.call(checkout))


def _run_one(machine: Machine, places: Sequence[str], suite: Suite, *, seconds: float) -> Ran:
    log = machine.folder / "suites" / (places[0].replace("/", "-") + ".log")
    log.parent.mkdir(exist_ok=True)
    checkout = machine.folder / "checkout"
    options = ["-p", "no:cacheprovider", "-rfE", "--tb=short", f"--rootdir={machine.call(checkout)}"]
    options += ["-p", "tests.machines.sampling", "--every", str(suite.every), "--budget", str(int(seconds))]
    options += ["-c", machine.call(checkout / "pyproject.toml"), *suite.options]
    command = ["-m", "pytest", *options, *(machine.call(checkout / place) for place in places)]
    # A test that hangs must end some time; what was begun within the budget may take its time.
    variables = {"WETREAD_TEST_EXAMPLES": str(suite.examples)}
    sites = ("site", "tests-site", "checkout")
    try:
        done = machine.run(*command, sites=sites, variables=variables, seconds=seconds + 180, log=log)
    except subprocess.TimeoutExpired:
        return Ran({}, (f"{' '.join(places)} did not end",))
    log.with_suffix(".txt").write_text(done.stdout, encoding="utf-8")
    counts = {kind.rstrip("s"): int(count) for count, kind in _COUNT.findall(done.stdout[-2000:])}
    failed = tuple(_FAILED.findall(done.stdout))
    stopped = done.returncode == 2 and "the time is used up" in done.stdout
    if not counts or not (stopped or done.returncode in (0, 1, 5)):
        failed = (*failed, f"{' '.join(places)} ended with {done.returncode}")
    return Ran(counts, failed)
