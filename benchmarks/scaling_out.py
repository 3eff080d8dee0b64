"""What a million and a hundred million images cost, and where more machines stop helping.

    python benchmarks/scaling_out.py measure --model MODEL.onnx --images FOLDER > measured.json
    python benchmarks/scaling_out.py simulate measured.json

`measure` takes processor times of this machine: of scoring an object (from the loopback server of the tests,
in a process of its own), of a name in a manifest, of a row in a merge, and the seconds that a shard takes
before its first image and after its last. `simulate` plays a run on many cores: the bucket is listed, shards
go to actors as these become free, and shards are merged. What it must assume is printed with what it found:
the service's documented rates (5,000 reads a second at first, doubling every 20 minutes at most), the rest
as options.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
ROUNDS = 3
MEASURED_NAMES, MEASURED_ROWS = 200_000, 40_000
LIST_NAMES = """
import sys
from wetread.runtime.sources.manifest import write_manifest
from wetread.runtime.entries import Entry
names = (f"gs://bucket/{index:09d}.jpeg" for index in range(int(sys.argv[1])))
with open(sys.argv[2], "wb") as file:
    write_manifest((Entry(name, 1, "1700000000000000001", "yZRlqg==") for name in names), file, origin={})
"""
SHARDS_TIMED = 200
CORES = (2, 4, 16, 64, 256, 1024, 4096)


@dataclass(frozen=True)
class Measured:
    """Seconds of one core: for an image in a bucket, a name listed, a row merged; and for a shard at all."""

    image: float
    name: float
    row: float
    shard: float


@dataclass(frozen=True)
class Assumed:
    """What a simulation takes as given; the first three are the service's documented rates."""

    reads_at_first: float = 5000.0
    doubling_seconds: float = 1200.0
    names_per_page: int = 1000
    page_seconds: float = 0.1
    start_seconds: float = 90.0
    dispatch_seconds: float = 0.001
    spread: float = 0.1
    losses_per_core_hour: float = 0.01


def run(*command: object, **environment: str) -> float:
    """Processor seconds, user and system, of a whole process and its children."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr[-2000:])
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@contextmanager
def serve(*folders: str) -> Iterator[str]:
    """The loopback server, with folders as buckets."""
    command = [sys.executable, "-m", "tests.runtime.gcs_server", *folders]
    server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[0]
    finally:
        server.stdin.close()
        server.wait()
        server.stdout.close()


def measure(model: Path, images: Path) -> Measured:
    """Measure on this machine; each figure is the least of three rounds, less what starting costs."""
    with tempfile.TemporaryDirectory() as scratch, serve(f"many={images}") as url:
        folder = Path(scratch)
        files = sorted(path for path in images.rglob("*") if path.is_file())
        one = f"gs://many/{files[0].relative_to(images).as_posix()}"
        score = ("-m", "wetread", "score", "--model", model, "--device", "cpu", "-q", "--overwrite", "-o")
        output = folder / "scores.csv"
        environment = {"STORAGE_EMULATOR_HOST": url}
        whole, start = (
            min(run(*score, output, source, **environment) for _ in range(ROUNDS))
            for source in ("gs://many", one)
        )
        name, row = _measure_lists(folder, model, files[0])
        return Measured((whole - start) / (len(files) - 1), name, row, _measure_shard(folder, model, images))


def _measure_lists(folder: Path, model: Path, image: Path) -> tuple[float, float]:
    """A name in a manifest, and a row in a merge: of one file, listed many times."""
    from wetread.runtime.entries import Entry
    from wetread.runtime.scoring.classifier import Classifier
    from wetread.runtime.scoring.run import ScoreOptions
    from wetread.runtime.shards.shard import Shard, ShardScorer
    from wetread.runtime.sources.manifest import write_manifest

    names = [
        min(run("-c", LIST_NAMES, n, folder / "listed") for _ in range(ROUNDS)) for n in (MEASURED_NAMES, 1)
    ]
    status, classifier, merges = image.stat(), Classifier(model, device="cpu"), []
    entry = Entry(str(image), status.st_size, str(status.st_mtime_ns))
    for count in (MEASURED_ROWS, 1):
        with (folder / "m").open("wb") as file:
            write_manifest([entry] * count, file, origin={})
        rows = folder / f"rows-{count}"
        ShardScorer(classifier, ScoreOptions(from_manifest=str(folder / "m"), output=str(rows))).score(
            Shard(0, 1)
        )
        merge = ("-m", "wetread", "merge", rows, "-o", folder / "merged.csv", "--overwrite", "-q")
        merges.append(min(run(*merge) for _ in range(ROUNDS)))
    return (names[0] - names[1]) / MEASURED_NAMES, (merges[0] - merges[1]) / MEASURED_ROWS


def _measure_shard(folder: Path, model: Path, images: Path) -> float:
    """Seconds of a shard of one image, less that image: cutting, spooling, writing, its threads."""
    from itertools import islice
    from time import perf_counter

    from wetread.runtime.scoring.classifier import Classifier
    from wetread.runtime.scoring.run import ScoreOptions
    from wetread.runtime.shards.shard import Shard, ShardScorer
    from wetread.runtime.sources.manifest import write_manifest
    from wetread.runtime.sources.opening import open_source

    entries = list(islice(open_source(images).entries(), SHARDS_TIMED))
    with (folder / "few").open("wb") as file:
        write_manifest(entries, file, origin={})
    classifier, seconds = Classifier(model, device="cpu"), []
    for count in (len(entries), 1):
        place = str(folder / f"shards-{count}")
        options = ScoreOptions(from_manifest=str(folder / "few"), output=place, workers=1, batch_size=1)
        scorer = ShardScorer(classifier, options)
        start = perf_counter()
        for index in range(count):
            scorer.score(Shard(index, count))
        seconds.append(perf_counter() - start)
    return max(0.0, (seconds[0] - seconds[1]) / (len(entries) - 1))


@dataclass(frozen=True)
class Outcome:
    """Seconds of each part of a run, and what the scoring waited for, in core seconds."""

    listing: float
    scoring: float
    merging: float
    core_seconds: float
    held_by_bucket: float
    held_by_driver: float


def simulate(images: int, cores: int, measured: Measured, assumed: Assumed) -> Outcome:
    """Play a run: listing, then shards on cores in small steps of time, then the merge."""
    from wetread.cluster.engine import count_shards

    shards = count_shards(images)
    random = np.random.default_rng(0)
    size = images / shards
    work = size * measured.image * random.lognormal(0, assumed.spread, shards) + measured.shard
    cores = min(cores, shards)
    step = max(min(work.mean() / 50, 5.0), 0.02)
    left = np.zeros(cores)
    given = done = 0
    time = busy = bucket = driver = 0.0
    while done < shards:
        free = np.flatnonzero(left <= 0)
        most = int(step / assumed.dispatch_seconds)
        taken = free[: min(len(free), shards - given, most)]
        left[taken] += work[given : given + len(taken)]
        given += len(taken)
        driver += (min(len(free), shards - given + len(taken)) - len(taken)) * step
        active = left > 0
        wanted = active.sum() / measured.image
        allowed = assumed.reads_at_first * 2 ** (time / assumed.doubling_seconds)
        speed = min(1.0, allowed / wanted) if wanted else 1.0
        left[active] -= speed * step
        lost = active & (random.random(cores) < assumed.losses_per_core_hour * step / 3600)
        left[lost] += work.mean() / 2 + assumed.start_seconds
        bucket += (1 - speed) * step * active.sum()
        busy += step * active.sum()
        time += step
        done = given - int((left > 0).sum())
    listing = images * max(measured.name, assumed.page_seconds / assumed.names_per_page)
    scoring = time + assumed.start_seconds
    return Outcome(listing, scoring, images * measured.row, busy, bucket, driver)


def report(images: int, measured: Measured, assumed: Assumed, prices: argparse.Namespace) -> None:
    ideal = images * measured.image
    pages = images / assumed.names_per_page
    cost = (
        ideal / 3600 * prices.core_hour,
        images / 1e6 * prices.million_reads,
        pages / 1e6 * prices.million_lists,
    )
    print(f"\n{images:,} images: {ideal / 3600:,.1f} core hours of scoring")
    print(
        f"cost: {cost[0]:,.2f} for cores at {prices.core_hour} an hour, {cost[1]:,.2f} for reads at "
        f"{prices.million_reads} a million, {cost[2]:,.2f} for lists at {prices.million_lists} a million\n"
    )
    print("| cores | listing | scoring | merge | whole | scoring's efficiency | waiting for the bucket |")
    print("|---|---|---|---|---|---|---|")
    for cores in prices.cores:
        found = simulate(images, cores, measured, assumed)
        whole = found.listing + found.scoring + found.merging
        efficiency = ideal / (found.scoring * cores)
        waiting = found.held_by_bucket / found.core_seconds
        hours = " | ".join(
            f"{part / 3600:.2f} h" for part in (found.listing, found.scoring, found.merging, whole)
        )
        print(f"| {cores:,} | {hours} | {efficiency:.0%} | {waiting:.0%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    measuring = commands.add_parser("measure")
    measuring.add_argument("--model", type=Path, required=True)
    measuring.add_argument("--images", type=Path, required=True)
    playing = commands.add_parser("simulate")
    playing.add_argument("measured", type=Path)
    playing.add_argument("--images", type=int, nargs="+", default=[10**6, 10**8])
    playing.add_argument("--cores", type=int, nargs="+", default=CORES)
    playing.add_argument("--core-hour", type=float, default=0.04, help="your price of a core hour")
    playing.add_argument("--million-reads", type=float, default=0.40)
    playing.add_argument("--million-lists", type=float, default=5.00)
    for name, value in asdict(Assumed()).items():
        playing.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    chosen = parser.parse_args()
    if chosen.command == "measure":
        print(json.dumps(asdict(measure(chosen.model.resolve(), chosen.images.resolve()))))
        return
    measured = Measured(**json.loads(chosen.measured.read_text()))
    assumed = Assumed(**{name: getattr(chosen, name) for name in asdict(Assumed())})
    print(f"measured: {asdict(measured)}\nassumed: {asdict(assumed)}")
    for images in chosen.images:
        report(images, measured, assumed, chosen)


if __name__ == "__main__":
    main()
