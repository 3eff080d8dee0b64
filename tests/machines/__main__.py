"""Build the machines, install the wheel there, compare: `python -m tests.machines --folder DIR`.

`make test-machines` calls it. Needs root, apt and a package index, and a folder of about 6 GB outside the
checkout, which is used again. Exits with 1 where a machine gives another answer, or a test fails that nothing
explains.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tests.machines import arm64, golden, judges, processors, pythons, sockets, windows
from tests.machines.machine import ROOT, need, run
from tests.machines.steps import BUILDERS, STEPS, USUAL, Options, say, try_machine
from tests.machines.table import Row, write_page


def parse(arguments: list[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "wetread-machines")
    parser.add_argument("--only", default=",".join(USUAL), help=f"of {', '.join(BUILDERS)}")
    parser.add_argument("--steps", default=",".join(STEPS), help="of golden, bundle, suites")
    parser.add_argument("--every", type=int, help="run one test in so many, without a limit of time")
    parser.add_argument("--write", action="store_true", help="write the table into docs/results/machines.md")
    given = parser.parse_args(arguments)
    only, steps = tuple(given.only.split(",")), tuple(given.steps.split(","))
    if not ({*only} <= {*BUILDERS} and {*steps} <= {*STEPS}):
        parser.error(f"machines are {', '.join(BUILDERS)}; steps are {', '.join(STEPS)}")
    return Options(given.folder.resolve(), only, steps, given.every, given.write)


def prepare(options: Options) -> None:
    """Install what the machines are made with. apt lets nobody else in: before anything else begins."""
    needed = windows.NEEDED | arm64.NEEDED | processors.NEEDED | pythons.NEEDED | sockets.NEEDED
    need(needed, log=options.folder / "apt.log")
    if "arm64" in options.only:
        arm64.fetch_emulator(options.folder / "arm64")
    if "sockets" in options.only:
        sockets.fetch_kernel(options.folder / "sockets")


def build_wheel(folder: Path) -> Path:
    """Build wetread's wheel from this checkout."""
    place = folder / "wheel"
    for old in place.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(place), str(ROOT)]
    run(command, log=folder / "wheel.log")
    (wheel,) = place.glob("*.whl")
    return wheel


def main(arguments: list[str]) -> int:
    """Do it all, two machines at a time."""
    began = time.monotonic()
    options = parse(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    prepare(options)
    wheel = build_wheel(options.folder)
    here = golden.measure()
    rows = [Row.of("this machine", here, golden.compare(here, golden.read_expected()))]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        rows += pool.map(partial(try_machine, options=options, wheel=wheel), options.only)
        objections = judges.judge(options.folder / "judges")
    seconds = time.monotonic() - began
    for line in [*(row.to_text() for row in rows), *objections, f"{seconds / 60:.1f} minutes"]:
        say(line)
    if options.write:
        write_page(rows, here, seconds=seconds)
    return 0 if all(row.passed for row in rows) and not objections else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
