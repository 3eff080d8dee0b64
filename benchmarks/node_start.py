"""How long a node takes to start beside what earlier runs left, and how much memory that takes.

    python benchmarks/node_start.py --objects 300000                     all done
    python benchmarks/node_start.py --objects 300000 --waiting 20000     the last 20,000 wait for an archive

The store, the ledger and the rows are written directly, as a node leaves them; the objects themselves are one
byte each, as a start does not read what it knows. The time is that of the process, until it listens.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wetread import Classifier
from wetread.errors import Status
from wetread.node.options import NodeOptions, Peer
from wetread.node.sender import name_way
from wetread.node.store import LEDGER_SUFFIX, key_name
from wetread.node.store_marker import MARKER
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.scoring.rows import Prediction
from wetread.runtime.watch.journal import Journal, open_journal

WETREAD = (sys.executable, "-m", "wetread")
ARCHIVE = Peer("ARCH", "127.0.0.1", 9)  # the port of 'discard': nobody listens
_BATCH = 256


@dataclass(frozen=True)
class Left:
    """What an earlier run left: the options of the node, and how many objects wait.

    `one_by_one`: what was done has a line each, as in ledgers written until November 2026.
    """

    options: NodeOptions
    objects: int
    waiting: int
    one_by_one: bool

    @cached_property
    def names(self) -> list[str]:
        """The objects' names, in the order in which they came."""
        return [f"1.2.840.113619.2.55.3.604688119.{number}.dcm" for number in range(self.objects)]

    def write(self, model: Classifier) -> None:
        """Write objects, ledger, rows and the rows' journal."""
        store = Path(self.options.store)
        store.mkdir()
        for name in (MARKER, *self.names):
            (store / name).write_bytes(b"x")
        self._write_ledger(model.digest)
        self._write_rows(model)

    def _write_ledger(self, digest: str) -> None:
        names = self.names
        lines: list[dict[str, Any]] = [
            {"version": 1, "identity": self.options.identify_store(digest)},
            {"marked": True},
        ]
        for start in range(0, len(names), _BATCH):
            part = names[start : start + _BATCH]
            digests = {name.removesuffix(".dcm"): name.encode().hex()[-32:] for name in part}
            lines.append({"received": digests})
            done = part[: max(0, len(names) - self.waiting - start)]
            if not self.options.results and not self.one_by_one:
                lines.append({"done": done})
                continue
            for name in done:
                lines += [{"sent": name, "what": name_way(kind, ARCHIVE)} for kind in self.options.results]
                lines.append({"done": name if self.one_by_one else [name]})
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        Path(self.options.output + LEDGER_SUFFIX).write_text(text)

    def _write_rows(self, model: Classifier) -> None:
        identity = self.options.identify(model.digest)
        journal = Journal(self.options.output, labels=model.spec.labels, kind="csv", identity=identity)
        share = 1 / len(model.spec.labels)
        with open_journal(journal):
            for start in range(0, self.objects, _BATCH):
                part = self.names[start : start + _BATCH]
                rows = [
                    Prediction(
                        path=str(Path(self.options.store) / name),
                        status=Status.OK,
                        label=model.spec.labels[0],
                        probability=share,
                        probabilities=(share,) * len(model.spec.labels),
                    )
                    for name in part
                ]
                journal.append(rows, [key_name(name) for name in part])


def measure_start(left: Left, *, folder: Path, seconds: float) -> tuple[float, float, int, int]:
    """Start a node; return seconds until it listens, those of its processor, memory, its peak (MiB)."""
    command = ["node", "--host", "127.0.0.1", "--port", "0", "--allow", "*@*"]
    command += ["--output", left.options.output]
    if left.options.archives:
        command += [
            "--send-to",
            f"{ARCHIVE.title}@{ARCHIVE.host}:{ARCHIVE.port}",
            "--results",
            ",".join(left.options.results),
        ]
    log = folder / "log"
    started = time.perf_counter()
    with log.open("wb") as place:
        process = subprocess.Popen([*WETREAD, *command], stderr=place)
    try:
        while "listens on port" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        took = time.perf_counter() - started
        used = sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]))
        time.sleep(seconds)
        lines = dict(
            line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        )
        memory, peak = (int(lines[name].split()[0]) >> 10 for name in ("VmRSS", "VmHWM"))
        return took, used / os.sysconf("SC_CLK_TCK"), memory, peak
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Write what is left, and start a node beside it a few times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=300_000)
    parser.add_argument("--waiting", type=int, default=0, help="objects whose results are not out")
    parser.add_argument("--results", default="", help="sr,sc")
    parser.add_argument("--one-by-one", action="store_true", help="a line for each that is done")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="write it here, keep it, and use it again")
    parser.add_argument("--seconds", type=float, default=2.0, help="from the start to the look at memory")
    given = parser.parse_args()
    results = tuple(filter(None, given.results.split(",")))
    folder = Path(given.folder or tempfile.mkdtemp())
    try:
        options = NodeOptions(
            ae_title="WETREAD",
            output=str(folder / "node.csv"),
            store=str(folder / "node.csv.store"),
            allow=(Peer("*", "*"),),
            archives=(ARCHIVE,) if results else (),
            results=results,
        )
        left = Left(options, given.objects, given.waiting, given.one_by_one)
        if not Path(options.store).exists():
            left.write(Classifier(choose_model(None)))
        found = [measure_start(left, folder=folder, seconds=given.seconds) for _ in range(given.rounds)]
    finally:
        if not given.folder:
            shutil.rmtree(folder)
    times, processor, memory, peaks = zip(*found, strict=True)
    print(
        f"{given.objects:,} objects, {given.waiting:,} of them wait: listens after "
        f"{statistics.median(times):.1f} s ({min(times):.1f} to {max(times):.1f}, {given.rounds} starts; "
        f"{statistics.median(processor):.1f} s of a processor), "
        f"{statistics.median(memory):.0f} MiB, {statistics.median(peaks):.0f} MiB at most"
    )


if __name__ == "__main__":
    main()
