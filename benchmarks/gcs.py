"""Scoring from a bucket: against the folder, against one request at a time, under faults, and in memory.

    python benchmarks/gcs.py --model MODEL.onnx [--images FOLDER] [--only SECTION...] [--quick]

Each claim is printed with what was wanted. obstore, a peer, is compared where it can be imported. The
loopback server of the tests runs in a process of its own, so that its processor time is not counted as the
client's. Every figure is of a whole `wetread score` process; contenders take turns, and ratios are medians
of the ratios within a round. Standard library only: on Linux a child's peak memory starts at its parent's.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).parents[1]
OBSTORE = ROOT / "benchmarks" / "peers" / "gcs_obstore.py"
ONE_BY_ONE = ROOT / "benchmarks" / "peers" / "gcs_one_by_one.py"
FAULTS = {"throttle": 20, "truncate": 100, "reset": 100, "corrupt": 200}
LATENCY = 0.03


@dataclass(frozen=True)
class Run:
    """One whole process: seconds, processor seconds, peak memory in MB, its rows and its record."""

    wall: float
    cpu: float
    peak: float
    rows: list[list[str]]
    record: dict


class Bench:
    """The server, the model and the scratch folder that every section uses."""

    def __init__(self, url: str, model: Path, images: Path, *, scratch: Path, quick: bool) -> None:
        self.url, self.model, self.images, self.scratch = url, model, images, scratch
        self.quick = quick
        self.count = sum(1 for path in images.rglob("*") if path.is_file())

    def control(self, **values: object) -> dict:
        """Set the server's faults anew and forget its counts; or, with nothing, ask for them."""
        data = json.dumps(values).encode() if values else None
        with urllib.request.urlopen(self.url + "/control", data) as answer:
            return json.load(answer)

    def score(self, source: str, *, reader: str = "direct") -> Run:
        """Score a source in a process of its own."""
        output = self.scratch / "scores.csv"
        program = [str(OBSTORE)] if reader == "obstore" else ["-m", "wetread"]
        options = ["--model", str(self.model), "--output", str(output), "--overwrite", "-q"]
        choice = {"WETREAD_GCS_READER": reader.partition("-")[0]}
        wall, cpu, peak = self._measure([*program, "score", source, *options], choice)
        record = json.loads(Path(f"{output}.run.json").read_text())
        start = source.rstrip("/") + "/"
        with output.open(newline="") as file:
            rows = [[row[0].removeprefix(start), *row[1:]] for row in csv.reader(file)]
        return Run(wall, cpu, peak, rows, record)

    def one_by_one(self, count: int) -> float:
        """Images a second of google-cloud-storage, one request after another, and nothing else."""
        done = subprocess.run(
            [sys.executable, ONE_BY_ONE, str(count)], env=self._environment(), capture_output=True, check=True
        )
        return float(done.stdout)

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return os.environ | {"STORAGE_EMULATOR_HOST": self.url, "PYTHONPATH": path}

    def _measure(self, arguments: list[str], more: dict[str, str]) -> tuple[float, float, float]:
        start = perf_counter()
        child = subprocess.Popen([sys.executable, *arguments], env=self._environment() | more, cwd=ROOT)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in (0, 3):
            raise SystemExit(f"wetread ended with exit code {child.returncode}")
        return perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def ratios(first: list[float], second: list[float]) -> str:
    """The median of the ratios within rounds, and their range."""
    each = sorted(one / other for one, other in zip(first, second, strict=True))
    return f"{median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})"


def compare_clients(bench: Bench, rounds: int) -> None:
    """The folder, and the bucket through each client, at 30 ms a request."""
    readers = ["direct", "google-cloud-storage"]
    if find_spec("obstore") is None:
        print("obstore is not run: it cannot be imported (pip install obstore)")
    else:
        readers.append("obstore")
    found: dict[str, list[Run]] = {name: [] for name in ("folder", *readers)}
    one_by_one = []
    for _ in range(rounds):
        found["folder"].append(bench.score(str(bench.images)))
        for reader in readers:
            bench.control(latency=LATENCY)
            found[reader].append(bench.score("gs://b/", reader=reader))
        bench.control(latency=LATENCY)
        one_by_one.append(bench.one_by_one(50 if bench.quick else 200))
    _print_clients(bench, found, one_by_one)


def _print_clients(bench: Bench, found: dict[str, list[Run]], one_by_one: list[float]) -> None:
    print(f"\n{bench.count:,} images, {LATENCY * 1000:.0f} ms a request, {os.cpu_count()} processors")
    print("\n| | images/s | processor ms per image | read s | decode s | infer s | peak MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, runs in found.items():
        middle = sorted(runs, key=lambda run: run.wall)[len(runs) // 2]
        seconds = middle.record["seconds"]
        stages = " | ".join(f"{seconds[stage]:.2f}" for stage in ("read", "decode", "infer"))
        cpu = middle.cpu / bench.count * 1000
        print(f"| {name} | {bench.count / middle.wall:,.0f} | {cpu:.2f} | {stages} | {middle.peak:.0f} |")
    print(f"| google-cloud-storage, one at a time, nothing decoded | {median(one_by_one):,.0f} ||||||")
    folder, fast, plain = (found[name] for name in ("folder", "direct", "google-cloud-storage"))
    print()
    for name in found.keys() - {"folder", "google-cloud-storage"}:
        gain = ratios(_walls(plain), _walls(found[name]))
        print(f"{name} to google-cloud-storage, from bucket to rows: {gain} times (wanted of a client: 1.3)")
        ratio = ratios(_cpus(found[name]), _cpus(folder))
        print(f"{name}, processor time to the folder's: {ratio} times (wanted: at most 1.4)")
    single = [bench.count / rate for rate in one_by_one]
    print(f"score to one request at a time: {ratios(single, _walls(fast))} times (wanted: at least 10)")
    print(*(run.record["storage"] for run in fast), sep="\n")
    same = all(run.rows == folder[0].rows for runs in found.values() for run in runs)
    print(f"rows equal but for the path: {same} (wanted: True)")


def _walls(runs: list[Run]) -> list[float]:
    return [run.wall for run in runs]


def _cpus(runs: list[Run]) -> list[float]:
    return [run.cpu for run in runs]


def compare_faults(bench: Bench, rounds: int) -> None:
    """The bucket with and without faults: every row right, and how much slower."""
    good, bad = [], []
    for _ in range(rounds):
        bench.control(latency=LATENCY)
        good.append(bench.score("gs://b/"))
        bench.control(latency=LATENCY, **FAULTS)
        bad.append(bench.score("gs://b/"))
        counts = bench.control()["counts"]
        print(f"faults: {counts}; retried: {bad[-1].record['storage']['failed_requests']}")
    same = all(run.rows == good[0].rows for run in bad)
    print(f"rows equal in number, order and value: {same} ({len(bad[0].rows) - 1:,} rows; wanted: True)")
    print(f"with faults to without, in time: {ratios(_walls(bad), _walls(good))} times (wanted: at most 3)")


def compare_memory(bench: Bench, _rounds: int) -> None:
    """Peak memory at 5,000 and at 100,000 objects."""
    peaks = []
    counts = (500, 10_000) if bench.quick else (5_000, 100_000)
    for count in counts:
        bench.control(latency=0.0, fill={f"many{count}": [str(bench.images), count, ""]})
        run = bench.score(f"gs://many{count}/")
        peaks.append(run.peak)
        rate = run.record["images_per_second"]
        print(f"{count:,} objects: peak {run.peak:.0f} MB, {len(run.rows) - 1:,} rows, {rate:,.0f} images/s")
    print(f"{counts[1]:,} to {counts[0]:,}: {peaks[1] / peaks[0]:.2f} times (wanted: flat)")


SECTIONS = {"clients": compare_clients, "faults": compare_faults, "memory": compare_memory}


@contextmanager
def open_server(images: Path) -> Iterator[str]:
    """Serve the images as the bucket `b` from a process of its own, until the block ends."""
    command = [sys.executable, "-m", "tests.runtime.gcs_server", f"b={images}"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert server.stdin and server.stdout
    try:
        yield server.stdout.readline().strip()
    finally:
        server.stdin.close()
        server.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("WETREAD_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--images", type=Path, default=data / "chest-xray-224")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the objects: does it work?")
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), default=list(SECTIONS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, open_server(options.images) as url:
        images, place = options.images.resolve(), Path(scratch)
        bench = Bench(url, options.model.resolve(), images, scratch=place, quick=options.quick)
        for name in options.only:
            print(f"\n## {name}", flush=True)
            SECTIONS[name](bench, options.rounds)


if __name__ == "__main__":
    main()
