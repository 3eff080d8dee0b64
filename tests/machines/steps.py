"""One machine: made, the corpus, a bundle, the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.machines import arm64, bundles, golden, limits, processors, pythons, sockets, suites, windows
from tests.machines.clock import Clock
from tests.machines.known import explain
from tests.machines.machine import EXTRAS, Machine, MachineError
from tests.machines.table import Row

STEPS = ("golden", "bundle", "suites")
# The slowest first: two at a time, and the others beside it.
BUILDERS: dict[str, Callable[[Path], Machine]] = {
    "arm64": lambda folder: arm64.build(folder / "arm64"),
    "windows": lambda folder: windows.build(folder / "windows"),
    **{
        name.lower(): (lambda folder, name=name: processors.build(folder / name.lower(), name))
        for name in processors.OLD
    },
    "small": lambda folder: limits.build(folder / "small"),
    "sockets": lambda folder: sockets.build(folder / "sockets"),
    **{
        f"python{version}": (lambda folder, version=version: pythons.build(folder / version, version))
        for version in pythons.VERSIONS
    },
}


# Emulating a whole computer takes as long as the others together: it is made when it is named.
USUAL = tuple(name for name in BUILDERS if name != "sockets")


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    folder: Path
    only: tuple[str, ...]
    steps: tuple[str, ...]
    every: int | None
    write: bool


def try_machine(name: str, options: Options, wheel: Path) -> Row:
    """Make one machine and do every step there; a machine that cannot be made is a row that says why."""
    clock = Clock(lambda text: say(f"{name}: {text}"))
    try:
        with clock.measure("made"):
            machine = BUILDERS[name](options.folder)
        with clock.measure("wheels"):
            machine.install(f"{wheel}[{EXTRAS}]")
        row = Row(name=machine.name, answer="not asked", passed=True)
        if "golden" in options.steps:
            with clock.measure("corpus"):
                row = measure(machine)
        if name in bundles.PLATFORMS and "bundle" in options.steps:
            with clock.measure("bundle"):
                row = row.with_bundle(bundles.try_bundle(machine, wheel, golden.read_expected()))
        if name in suites.SUITES and "suites" in options.steps:
            with clock.measure("tests"):
                ran = suites.run_suites(machine, choose_suite(name, options))
                row = row.with_suites(ran, explain=partial(explain, name))
    except (MachineError, OSError, subprocess.SubprocessError) as error:
        row = Row(name=name, answer=f"not made: {error}", passed=False)
    row = replace(row, steps=tuple(clock.steps))
    say(row.to_text())
    return row


def choose_suite(name: str, options: Options) -> suites.Suite:
    """The tests that a machine runs; with `--every`, without a limit of time."""
    suite = suites.SUITES[name]
    return suite if options.every is None else replace(suite, every=options.every, seconds=24 * 3600)


def measure(machine: Machine) -> Row:
    """Run the golden comparison there."""
    output = machine.folder / "golden.json"
    output.unlink(missing_ok=True)
    script = Path(golden.__file__)
    done = machine.run(
        machine.call(script), "--json", machine.call(output), seconds=3600, log=machine.folder / "golden.log"
    )
    if not output.exists():
        return Row(name=machine.name, answer=f"golden.py ended with {done.returncode}", passed=False)
    found = golden.read_measured(json.loads(output.read_text(encoding="utf-8")))
    return Row.of(machine.name, found, golden.compare(found, golden.read_expected()))


def say(text: str) -> None:
    """Tell what was done."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
