"""How many rows a second can the engine write where decoding and inference cost nothing?

    python benchmarks/ceiling.py [--files 20000] [--workers 1 2 4 8 16 32] [--rounds 3] [--json]

Everything but decoding and inference runs as in `wetread score`: listing, reading, rows, the output and its
state. The two are replaced by nothing, or by sleeping for as long as they take for a 224-pixel X-ray and
model-3 (75 and 235 microseconds), which costs no processor time and holds no lock: a machine with a processor
for each worker. `device` sleeps as long to decode, and 10 microseconds an image to compute, one batch at a
time: a GPU. Rows a second are those of the fastest round, processor time is the least.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from math import isnan, nan
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

from ceiling_stub import Stub, decoding_by

from wetread.runtime.scoring import processes
from wetread.runtime.scoring.output import open_output
from wetread.runtime.scoring.output_opening import make_output
from wetread.runtime.scoring.row_encoding import Rows
from wetread.runtime.scoring.run import ScoreOptions, open_options, score_source, score_to_file

DECODE, INFER, DEVICE = 75e-6, 235e-6, 10e-6
FOLDERS, FILE_BYTES = 10, 6_500
_TIMER_SLACK = 29  # Linux: PR_SET_TIMERSLACK


STUBS = {
    "nothing": Stub(),
    "sleeping": Stub(DECODE, INFER),
    "device": Stub(DECODE, DEVICE, device="cuda"),
}


def find_bound(stub: str, workers: int) -> float | None:
    """Return how many rows a second the stub alone allows."""
    if stub == "device":
        return min(workers / DECODE, 1 / DEVICE)
    return workers / (DECODE + INFER) if stub == "sleeping" else None


def main() -> None:
    arguments = parse_arguments()
    sharpen_sleep()
    with tempfile.TemporaryDirectory(prefix="wetread-ceiling-", dir=arguments.scratch) as scratch:
        folder = Path(scratch, "images")
        make_files(folder, arguments.files)
        found = {
            "machine": {"processors": len(os.sched_getaffinity(0)), "python": sys.version.split()[0]},
            "files": arguments.files,
            "stages": measure_stages(folder, Path(scratch), arguments.rounds),
            "runs": list(measure_runs(folder, Path(scratch), arguments)),
        }
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(write_tables(found)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stubs", choices=STUBS, nargs="+", default=list(STUBS))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--side", type=int, default=64, help="pixels of an image's side (default: %(default)s)"
    )
    parser.add_argument("--scratch", type=Path, help="where the files are made (default: the system's)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser.parse_args()


def sharpen_sleep() -> None:
    """Let threads wake when they asked to: Linux adds 50 microseconds to each sleep unless told otherwise."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_TIMER_SLACK, 1)


def make_files(folder: Path, count: int) -> None:
    """Fill folders with files of the size of a 224-pixel X-ray."""
    data = bytes(FILE_BYTES)
    for index in range(count):
        place = folder / f"patient-{index % FOLDERS:03d}"
        if index < FOLDERS:
            place.mkdir(parents=True)
        (place / f"person{index:06d}_bacteria.jpeg").write_bytes(data)


def measure_runs(
    folder: Path, scratch: Path, arguments: argparse.Namespace
) -> Iterator[dict[str, int | float | str]]:
    """Measure whole runs, the stubs and the numbers of workers in turn."""
    measured: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    for _ in range(arguments.rounds):
        for kind, stub, workers in product(KINDS, arguments.stubs, arguments.workers):
            if kind == "processes" and workers < 2:  # one worker stays a thread
                continue
            options = make_options(folder, scratch, workers=workers, batch_size=arguments.batch_size)
            seconds = KINDS[kind](replace(STUBS[stub], side=arguments.side), options)
            measured.setdefault((kind, stub, workers), []).append(seconds)
    for (kind, stub, workers), each in measured.items():
        wall, cpu = (min(seconds) / arguments.files for seconds in zip(*each, strict=True))
        bound = find_bound(stub, workers)
        yield {
            "stub": stub,
            "kind": kind,
            "workers": workers,
            "rows_per_second": round(1 / wall),
            "bound": bound and round(bound),
            "cpu_microseconds": None if isnan(cpu) else round(1e6 * cpu, 1),
        }


def make_options(folder: Path, scratch: Path, **how: Any) -> ScoreOptions:
    """Options of a run over the folder, whose output replaces that of the last one."""
    return ScoreOptions(sources=(str(folder),), output=str(scratch / "scores.csv"), overwrite=True, **how)


def run_once(stub: Stub, options: ScoreOptions) -> tuple[float, float]:
    """Score the folder once by threads; return seconds by the clock, and of processor time."""
    with decoding_by(stub), patch.multiple(processes, PATIENCE_SECONDS=3600.0, LONG_SECONDS=3600.0):
        return time_once(lambda: score_to_file(stub, options))  # type: ignore[arg-type]


class ReadyProcesses(processes.Processes):
    """Worker processes that are waited for, and that note when they begin and end to score."""

    span = (0.0, 0.0)

    def __init__(
        self, opening: processes.Opening, *, count: int, otherwise: processes.DoWork, **how: Any
    ) -> None:
        super().__init__(opening, count=count, otherwise=otherwise, **how)
        self.begin()
        self._starter.join()
        ReadyProcesses.span = (perf_counter(), 0.0)

    def close(self) -> None:
        """End the processes."""
        ReadyProcesses.span = (self.span[0], perf_counter())
        super().close()


def run_processes(stub: Stub, options: ScoreOptions) -> tuple[float, float]:
    """Score the folder once by processes; return seconds by the clock while they were there, and nan."""
    at_once = {
        "PATIENCE_SECONDS": 0.0,
        "LONG_SECONDS": 0.0,
        "count_processors": lambda: options.workers,
        "Processes": ReadyProcesses,
    }
    with decoding_by(stub), patch.multiple(processes, **at_once):
        score_to_file(stub, options)  # type: ignore[arg-type]
    return ReadyProcesses.span[1] - ReadyProcesses.span[0], nan


def time_once(work: Callable[[], Any]) -> tuple[float, float]:
    """Return seconds by the clock, and of this process's processor time."""
    start = perf_counter(), process_time()
    work()
    return perf_counter() - start[0], process_time() - start[1]


KINDS = {"threads": run_once, "processes": run_processes}


def measure_stages(folder: Path, scratch: Path, rounds: int) -> dict[str, float]:
    """Measure the processor time of each stage alone, on one thread, in microseconds a row.

    What is left of a run with one worker is the rest: batches, threads, the tally.
    """
    options = make_options(folder, scratch)
    source = open_options(options)
    entries = list(source.entries())
    with decoding_by(STUBS["nothing"]):
        chunks = list(score_source(STUBS["nothing"], iter(entries), source, options, kind="csv"))  # type: ignore[arg-type]
    stages: dict[str, Callable[[], Any]] = {
        "list": lambda: sum(1 for _ in source.entries()),
        "read": lambda: sum(len(source.read(entry)) for entry in entries),
        "write": lambda: write_chunks(chunks, scratch / "alone.csv"),
    }
    found = {name: min(time_once(work)[1] for _ in range(rounds)) for name, work in stages.items()}
    whole = min(run_once(STUBS["nothing"], replace(options, workers=1))[1] for _ in range(rounds))
    found |= {"rest": whole - sum(found.values()), "whole": whole}
    return {name: round(1e6 * seconds / len(entries), 1) for name, seconds in found.items()}


def write_chunks(chunks: list[Rows], path: Path) -> None:
    """Write chunks as a run does, and throw the output away."""
    output = make_output(str(path), labels=STUBS["nothing"].spec.labels, kind="csv", identity={})
    with open_output(output, resume=False):
        for chunk in chunks:
            output.write_rows(chunk)
        output.finish({})


def write_tables(found: dict[str, Any]) -> Iterator[str]:
    machine = found["machine"]
    yield f"{found['files']:,} files, {machine['processors']} processors, Python {machine['python']}\n"
    yield "| stage alone, one thread | processor time, µs a row |\n|---|---:|"
    for name, value in found["stages"].items():
        yield f"| {name} | {value} |"
    yield "\n| decoding and inference | workers | | rows/s | bound | processor time, µs a row |"
    yield "|---|---:|---|---:|---:|---:|"
    for run in found["runs"]:
        bound = f"{run['bound']:,}" if run["bound"] else ""
        yield (
            f"| {run['stub']} | {run['workers']} | {run['kind']} | {run['rows_per_second']:,} | {bound} | "
            f"{run['cpu_microseconds'] or ''} |"
        )


if __name__ == "__main__":
    main()
