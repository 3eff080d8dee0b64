"""How much of a core an idle `watch` and an idle `node` take beside 20,000 done files (Linux, /proc).

    python benchmarks/idle.py --files 20000 --seconds 50

The node is idle without an association, and with associations that are open and send nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from node import HERE, find_port

from wetread.runtime.files.line_log import LineLog
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.scoring.classifier import Classifier

PER_FOLDER = 500


def read_processor_seconds(process: int) -> float:
    """Return the processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    command: list[str],
    *,
    rows: int,
    output: Path,
    seconds: float,
    beside: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> float:
    """Run a command until its output has so many rows; return the share of a core that it takes then.

    `beside`: what is to be so while it is measured.
    """
    process = subprocess.Popen([sys.executable, "-m", "wetread", *command, "--quiet"])
    try:
        end = time.monotonic() + 900
        while not output.exists() or output.read_bytes().count(b"\n") <= rows:
            assert process.poll() is None, "it ended"
            assert time.monotonic() < end, "the rows never came"
            time.sleep(1)
        time.sleep(10)
        with beside():
            started, before = time.monotonic(), read_processor_seconds(process.pid)
            time.sleep(seconds)
            return (read_processor_seconds(process.pid) - before) / (time.monotonic() - started)
    finally:
        process.terminate()
        process.wait()


def measure_watch(place: Path, files: int, seconds: float) -> float:
    """Let a watch give up on files that are no images, which is quick, and measure what it takes then."""
    for number in range(files):
        path = place / "in" / f"{number // PER_FOLDER:03d}" / f"1.2.3.{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    output = place / "watch.csv"
    command = ["watch", str(place / "in"), "--output", str(output), "--settle", "0.5", "--patience", "1"]
    return measure(
        [*command, "--status", str(place / "status.json")], rows=files, output=output, seconds=seconds
    )


@contextmanager
def open_associations(port: int, count: int) -> Iterator[None]:
    """Hold associations open that send nothing."""
    from pynetdicom import AE

    entity = AE()
    entity.add_requested_context("1.2.840.10008.1.1")  # verification
    entity.network_timeout = None
    found = [entity.associate(HERE, port, ae_title="WETREAD") for _ in range(count)]
    assert all(each.is_established for each in found)
    yield
    assert all(each.is_established for each in found), "the node ended an association"
    for each in found:
        each.release()


def measure_node(place: Path, files: int, seconds: float, *, associations: int = 0) -> float:
    """Write the ledger and the store of a node that has done its work, and measure what it takes then."""
    port = find_port()
    output, store = place / "node.csv", place / "store"
    store.mkdir()
    ledger = LineLog(f"{output}.node")
    identity = {"model": Classifier(choose_model(None)).digest, "store": str(store.resolve())}
    ledger.append({"version": 1, "identity": identity})
    ledger.close()
    with Path(f"{output}.node").open("a") as lines:
        for number in range(files):
            data = b"%d" % number
            (store / f"1.2.3.{number}.dcm").write_bytes(data)
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            lines.write(f'{{"uid":"1.2.3.{number}","digest":"{digest}"}}\n{{"done":"1.2.3.{number}.dcm"}}\n')
    command = ["node", "--host", HERE, "--port", str(port), "--allow", "*@*", "--output", str(output)]
    return measure(
        [*command, "--store", str(store), "--status", str(place / "status.json")],
        rows=0,
        output=output,
        seconds=seconds,
        beside=lambda: open_associations(port, associations),
    )


def main() -> None:
    """Print both shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=50.0)
    given = parser.parse_args()
    kinds: dict[str, Callable[[Path, int, float], float]] = {"watch": measure_watch, "node": measure_node}
    for count in (1, 4):  # shorter than the minute after which a node ends an association
        kinds[f"node, associations open: {count}"] = partial(measure_node, associations=count)
    for name, find in kinds.items():
        with tempfile.TemporaryDirectory() as place:
            share = find(Path(place), given.files, given.seconds)
        beside = f"idle beside {given.files:,} done files"
        print(f"{name}: {share:.2%} of a core, {beside}, over {given.seconds:.0f} s")


if __name__ == "__main__":
    main()
