"""How much memory does `wetread score` take for 5,000 files and for 100,000, in its workers as well?

    python benchmarks/scoring_memory.py FOLDER [--files 5000 100000] [--processes 8]

Links to FOLDER's images, a thousand in a folder, are scored with the packaged model by two threads, and by
worker processes, which are used here whatever the number of processors. Printed for each run: the peak of the
main process, the largest peak of a worker (`VmHWM`, which counts libraries that all share), and the largest
`Pss` of a worker, which divides shared pages by their users, all in MB. Linux only.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

CODE = """
import sys
from wetread.runtime.scoring import processes
count = int(sys.argv.pop(1))
if count:
    processes.count_processors, processes.LONG_SECONDS = (lambda: count), processes.PATIENCE_SECONDS
else:
    processes.count_processors = lambda: 1
from wetread.cli import main
main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, nargs="+", default=[5_000, 100_000])
    parser.add_argument("--processes", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wetread-memory-") as scratch:
        for count in arguments.files:
            folder = Path(scratch, str(count))
            link_files(arguments.folder, folder, count)
            for processes in (0, arguments.processes):
                print(run(folder, count, processes), flush=True)


def link_files(source: Path, folder: Path, count: int) -> None:
    """Link to the images of a folder, again and again, until there are so many."""
    images = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    for index, image in enumerate(islice(cycle(images), count)):
        place = folder / f"{index // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:06d}{image.suffix}").symlink_to(image.resolve())


def run(folder: Path, count: int, processes: int) -> str:
    """Score a folder, and describe the memory that it took."""
    line = ["score", str(folder), "--output", f"{folder}.csv", "--overwrite", "--quiet"]
    line += ["--workers", str(processes or 2)]
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", CODE, str(processes), *line])
    peak = 0.0
    workers: dict[int, tuple[float, float]] = {}
    while child.poll() is None:
        peak = max(peak, read_memory(child.pid)[0])
        for pid in list_children(child.pid):
            before, now = workers.get(pid, (0.0, 0.0)), read_memory(pid)
            workers[pid] = (max(before[0], now[0]), max(before[1], now[1]))
        time.sleep(0.1)
    assert child.returncode == 0, "score failed"
    rate = count / (time.perf_counter() - start)
    own = f"{count:,} files, {processes or 2} {'processes' if processes else 'threads'}, {rate:,.0f}/s:"
    if not processes:
        return f"{own} main process {peak:.0f} MB"
    most, share = (max(each) for each in zip(*workers.values(), strict=True))
    return f"{own} main process {peak:.0f} MB, a worker {most:.0f} MB at most (Pss {share:.0f})"


def list_children(pid: int) -> list[int]:
    """Return the processes that a process's threads started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:  # the thread has just ended
            continue
    return found


def read_memory(pid: int) -> tuple[float, float]:
    """Return a process's peak of resident memory, and its present share, in MB; zeros once it ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        shared = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    peak, share = re.search(r"VmHWM:\s+(\d+)", status), re.search(r"(?m)^Pss:\s+(\d+)", shared)
    return (int(peak[1]) / 1e3 * 1.024 if peak else 0.0), (int(share[1]) / 1e3 * 1.024 if share else 0.0)


if __name__ == "__main__":
    assert sys.platform == "linux" and os.path.isdir("/proc/self/task"), "this reads /proc"
    main()
