"""What a cluster's engine costs beside the plain one, on this machine, its start-up apart.

    python benchmarks/cluster.py --model MODEL.onnx --images FOLDER [--count 100000] [--rounds 5] [--data]

Each contender scores the same manifest in whole processes that take turns, once whole and once with a handful
of names; the difference is what the images cost and the rest is start-up. Ratios are medians of the ratios
within a round. Processor time counts every process that a contender starts, Ray's own among them, so that it
says something on a busy machine too (Linux only). `--data` runs the shards through Ray Data as well, which
needs `pip install 'ray[data]'`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).parents[1]
RAY_DATA = ROOT / "benchmarks" / "peers" / "ray_data.py"
FEW = 64
LOOK_SECONDS = 0.2
_RUNS = count()


@dataclass(frozen=True)
class Spent:
    """What a command took: seconds by the clock, and of the processors, of all its processes."""

    wall: float
    cpu: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)


def run(*command: object) -> Spent:
    """Run a whole process, and whatever it starts. It may say that some images have no score."""
    mark = f"WETREAD_BENCHMARK={os.getpid()}-{next(_RUNS)}"
    name, _, value = mark.partition("=")
    environment = os.environ | {"PYTHONPATH": str(ROOT), name: value}
    start, spent, ours = perf_counter(), {}, {}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], env=environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        while process.poll() is None:
            _look_at_processes(mark.encode(), spent, ours)
            time.sleep(LOOK_SECONDS)
        errors.seek(0)
        if process.returncode not in (0, 3):
            raise SystemExit(f"{command}: {errors.read()[-2000:].decode(errors='replace')}")
    return Spent(perf_counter() - start, sum(spent.values()))


def _look_at_processes(mark: bytes, spent: dict[str, float], ours: dict[str, bool]) -> None:
    """Note the processor seconds of every process that has the mark: Ray's are nobody's children (Linux)."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if pid not in ours:
                ours[pid] = mark in Path(f"/proc/{pid}/environ").read_bytes()
            if ours[pid]:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                spent[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spread(images: Path, folder: Path, total: int) -> None:
    """A tree of `total` small images: hard links where the file system takes them, else copies."""
    files = sorted(path for path in images.rglob("*") if path.is_file())
    for index in range(total):
        place = folder / f"{index // 1000:04d}"
        if index % 1000 == 0:
            place.mkdir(parents=True)
        source, target = files[index % len(files)], place / f"{index:07d}{files[index % len(files)].suffix}"
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


class Bench:
    """The manifests and the model that every contender gets."""

    def __init__(self, model: Path, scratch: Path, workers: int) -> None:
        self.model, self.scratch, self.workers = model, scratch, workers

    def manifest(self, folder: Path, name: str) -> Path:
        output = self.scratch / name
        run("-m", "wetread", "manifest", folder, "-o", output, "-q")
        return output

    def options(self, manifest: Path, output: Path) -> list[object]:
        return ["--from-manifest", manifest, "--model", self.model, "-o", output, "--device", "cpu", "-q"]

    def plain(self, manifest: Path) -> Spent:
        output = self.scratch / f"plain-{next(_RUNS)}.csv"
        options = self.options(manifest, output)
        return run("-m", "wetread", "score", *options, "--workers", self.workers)

    def ray(self, manifest: Path) -> Spent:
        output = self.scratch / f"ray-{next(_RUNS)}"
        options = self.options(manifest, output)
        return run("-m", "wetread", "score", *options, "--engine", "ray", "--num-actors", self.workers)

    def ray_data(self, manifest: Path) -> Spent:
        output = self.scratch / f"data-{next(_RUNS)}"
        return run(RAY_DATA, "--manifest", manifest, "--model", self.model, "--output", output)

    def check(self) -> None:
        """Hold the merged shards of every engine to the plain output, byte for byte."""
        expected = max(self.scratch.glob("plain-*.csv"), key=lambda path: path.stat().st_size).read_bytes()
        for kind in ("ray", "data"):
            folders = sorted(self.scratch.glob(f"{kind}-*"), key=lambda path: int(path.name.split("-")[1]))
            if folders:
                output = self.scratch / f"merged-{kind}.csv"
                run("-m", "wetread", "merge", folders[0], "-o", output, "-q")
                print(f"{kind}: merged bytes equal the plain engine's: {output.read_bytes() == expected}")


def measure(
    contenders: dict[str, Callable[[Path], Spent]], whole: Path, few: Path, rounds: int
) -> dict[str, list[tuple[Spent, Spent]]]:
    """Seconds (whole, few) of each contender in each round; they take turns."""
    found: dict[str, list[tuple[Spent, Spent]]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            seconds = contender(whole), contender(few)
            found[name].append(seconds)
            print(f"round {number + 1} {name}: {seconds[0]}, with {FEW} images {seconds[1]}", flush=True)
    return found


def report(found: dict[str, list[tuple[Spent, Spent]]], total: int) -> None:
    net = {name: [whole - few for whole, few in rounds] for name, rounds in found.items()}
    print("| engine | images/s, start-up apart | of plain's time | of plain's processor time | start-up |")
    print("|---|---|---|---|---|")
    for name, spent in net.items():
        rate = (total - FEW) / median(one.wall for one in spent)
        start = median(few.wall for _, few in found[name])
        pairs = list(zip(spent, net["plain"], strict=True))
        wall, cpu = median(a.wall / b.wall for a, b in pairs), median(a.cpu / b.cpu for a, b in pairs)
        print(f"| {name} | {rate:,.0f} | {wall:.3f} | {cpu:.3f} | {start:.1f} s |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument(
        "--images", type=Path, required=True, help="small images, repeated as often as needed"
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="threads of the plain engine; actors of Ray")
    parser.add_argument("--data", action="store_true", help="Ray Data too")
    parser.add_argument("--scratch", type=Path, help="where the links may be; on the images' disk")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch:
        bench = Bench(chosen.model.resolve(), Path(scratch), chosen.workers)
        spread(chosen.images.resolve(), Path(scratch) / "whole", chosen.count)
        spread(chosen.images.resolve(), Path(scratch) / "few", FEW)
        whole = bench.manifest(Path(scratch) / "whole", "whole.manifest")
        few = bench.manifest(Path(scratch) / "few", "few.manifest")
        contenders = {"plain": bench.plain, "ray": bench.ray}
        if chosen.data:
            contenders["ray data"] = bench.ray_data
        found = measure(contenders, whole, few, chosen.rounds)
        bench.check()
    report(found, chosen.count)


if __name__ == "__main__":
    main()
