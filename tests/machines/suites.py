"""The runtime's own tests on another machine, from a copy of the tests and the installed wheel."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from tests.machines.machine import ROOT, Machine

_DEPENDENCIES = ("pytest", "hypothesis", "pillow", "onnx", "packaging", "pip", "google-crc32c")
# Those that ask for nothing of POSIX's; many others compare names with slashes, or make pipes.
SUITES = {
    "windows": ("tests/machines/test_windows_system.py", "tests/runtime/files"),
    "arm64": ("tests/runtime/files", "tests/runtime/test_processor.py", "tests/runtime/test_threads.py"),
}
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error|errors|deselected)")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Ran:
    """How many tests ended how, and which failed."""

    counts: dict[str, int]
    failed: tuple[str, ...]


def run_suites(machine: Machine, suites: Sequence[str], *, seconds: float = 3600) -> Ran:
    """Run tests on a machine; each file in a process of its own, for a crash there ends only that one."""
    if not (machine.folder / "tests-site").exists():
        machine.install(*_DEPENDENCIES, into="tests-site")
    checkout = machine.folder / "checkout"
    shutil.rmtree(checkout, ignore_errors=True)
    for name in ("tests", "docs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, checkout / name)
    counts: dict[str, int] = {}
    failed: list[str] = []
    for suite in suites:
        found = _run_one(machine, suite, seconds=seconds)
        failed += found.failed
        for kind, count in found.counts.items():
            counts[kind] = counts.get(kind, 0) + count
    return Ran(counts, tuple(failed))


def _run_one(machine: Machine, suite: str, *, seconds: float) -> Ran:
    log = machine.folder / "suites" / (suite.replace("/", "-") + ".log")
    log.parent.mkdir(exist_ok=True)
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-rfE",
        "--tb=short",
        f"--rootdir={machine.call(machine.folder)}",
    ]
    config = machine.call(machine.folder / "checkout" / "pyproject.toml")
    command = ["-m", "pytest", "-c", config, *options, machine.call(machine.folder / "checkout" / suite)]
    done = machine.run(*command, sites=("site", "tests-site"), seconds=seconds, log=log)
    log.with_suffix(".txt").write_text(done.stdout, encoding="utf-8")
    counts = {kind.rstrip("s"): int(count) for count, kind in _COUNT.findall(done.stdout[-2000:])}
    failed = tuple(_FAILED.findall(done.stdout))
    if done.returncode not in (0, 1, 5) or not counts:
        failed = (*failed, f"{suite} ended with {done.returncode}")
    return Ran(counts, failed)
