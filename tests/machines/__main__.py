"""Build the machines, install the wheel there, compare: `python -m tests.machines --folder DIR`.

`make test-machines` calls it. Needs root, apt and a package index, and a folder of about 4 GB outside the
checkout, which is used again. Exits with 1 where a machine gives another answer, or a test fails that nothing
explains.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.machines import arm64, bundles, golden, processors, pythons, suites, windows
from tests.machines.known import explain
from tests.machines.machine import EXTRAS, ROOT, Machine, MachineError, run
from tests.machines.table import Row, write_page

STEPS = ("golden", "bundle", "suites")
BUILDERS: dict[str, Callable[[Path], Machine]] = {
    "windows": lambda folder: windows.build(folder / "windows"),
    "arm64": lambda folder: arm64.build(folder / "arm64"),
    **{
        name.lower(): (lambda folder, name=name: processors.build(folder / name.lower(), name))
        for name in processors.OLD
    },
    **{
        f"python{version}": (lambda folder, version=version: pythons.build(folder / version, version))
        for version in pythons.VERSIONS
    },
}


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    folder: Path
    only: tuple[str, ...]
    steps: tuple[str, ...]
    write: bool


def parse(arguments: list[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "wetread-machines")
    parser.add_argument("--only", default=",".join(BUILDERS), help="machines, comma-separated")
    parser.add_argument("--steps", default=",".join(STEPS), help="of golden, bundle, suites")
    parser.add_argument("--write", action="store_true", help="write the table into docs/results/machines.md")
    given = parser.parse_args(arguments)
    only, steps = tuple(given.only.split(",")), tuple(given.steps.split(","))
    if not ({*only} <= {*BUILDERS} and {*steps} <= {*STEPS}):
        parser.error(f"machines are {', '.join(BUILDERS)}; steps are {', '.join(STEPS)}")
    return Options(given.folder.resolve(), only, steps, given.write)


def build_wheel(folder: Path) -> Path:
    """Build wetread's wheel from this checkout."""
    place = folder / "wheel"
    for old in place.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(place), str(ROOT)]
    run(command, log=folder / "wheel.log")
    (wheel,) = place.glob("*.whl")
    return wheel


def try_machine(name: str, options: Options, wheel: Path) -> Row:
    """Make one machine and do every step there; a machine that cannot be made is a row that says why."""
    began = time.monotonic()
    try:
        machine = BUILDERS[name](options.folder)
        say(f"{name}: built, {time.monotonic() - began:.0f} s")
        machine.install(f"{wheel}[{EXTRAS}]")
        row = measure(machine)
        say(f"{name}: {row.answer}, {time.monotonic() - began:.0f} s")
        if machine.tags and "bundle" in options.steps:
            used = bundles.try_bundle(machine, wheel, golden.read_expected())
            row = row.with_bundle(used)
            came = "; ".join(used.faults or used.steps)
            say(f"{name}: bundle: {came}, {time.monotonic() - began:.0f} s")
        if machine.tags and "suites" in options.steps:
            row = row.with_suites(
                suites.run_suites(machine, suites.SUITES[name]), explain=lambda test: explain(name, test)
            )
            say(f"{name}: {row.tests}, {time.monotonic() - began:.0f} s")
    except (MachineError, OSError) as error:
        return Row(name=name, answer=f"not made: {error}", seconds=time.monotonic() - began, passed=False)
    return row.after(time.monotonic() - began)


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


def main(arguments: list[str]) -> int:
    """Do it all, two machines at a time."""
    options = parse(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(options.folder)
    here = golden.measure()
    rows = [Row.of("this machine", here, golden.compare(here, golden.read_expected()))]
    with ThreadPoolExecutor(2) as pool:
        rows += pool.map(lambda name: try_machine(name, options, wheel), options.only)
    for row in rows:
        say(row.to_text())
    if options.write:
        write_page(rows, here)
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
