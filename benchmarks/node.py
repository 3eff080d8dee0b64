"""How many objects a second a node takes, beside `score` on the same files, and how its memory grows.

    python benchmarks/node.py --objects 400 --rounds 5          the ratio, for one association and for four
    python benchmarks/node.py --memory 20000 --side 64          memory after each tenth of them

dcmtk's `storescu` sends. Rates are those of a service at work: of the node from the first association to the
last row, of `score` without what it takes for a single file. Neither counts the start of its process.

Sender and node share the processors that `score` has alone, and an object is on the disk before its sender
is answered. So there are two bounds: `score` of the same files while pynetdicom, in a process of its own,
takes the same objects and forgets them, or writes each to a file that is synced. Neither has a digest or a
ledger.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.dcmtk import require_tool

HERE = "127.0.0.1"
ASSOCIATIONS = (1, 4)
WETREAD = (sys.executable, "-m", "wetread")


def draw_objects(folder: Path, count: int, *, side: int) -> list[Path]:
    """Write CR objects of 12-bit pixels, side x side, all different."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    numbers = np.random.default_rng(1)
    paths = []
    for index in range(count):
        coarse = numbers.integers(0, 4095, (12, 12)).astype(np.float32)
        pixels = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 4095)
        found = pydicom.Dataset()
        found.file_meta = FileMetaDataset()
        found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found.SOPClassUID = found.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(
            f"1.2.3.4.{index}"
        )
        found.StudyInstanceUID, found.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
        found.PatientID = found.PatientName = "BENCH"
        found.Modality, found.PhotometricInterpretation, found.SamplesPerPixel = "CR", "MONOCHROME2", 1
        found.Rows = found.Columns = side
        found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 16, 12, 11, 0
        found.PixelData = pixels.astype("<u2").tobytes()
        paths.append(folder / f"{index}.dcm")
        found.save_as(paths[-1], enforce_file_format=True)
    return paths


@dataclass(frozen=True)
class Node:
    """A node at work in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path

    def count_rows(self) -> int:
        """Rows so far."""
        return self.output.read_bytes().count(b"\n") - 1 if self.output.exists() else 0

    def wait_for(self, rows: int) -> None:
        """Wait until so many rows are written."""
        end = time.monotonic() + 900
        while self.count_rows() < rows:
            assert self.process.poll() is None, "the node ended"
            assert time.monotonic() < end, "the rows never came"
            time.sleep(0.01)

    def read_memory(self) -> list[int]:
        """Proportional memory in MiB of the node and of each of its processes (Linux)."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        found = {pid for task in tasks for pid in (task / "children").read_text().split()}
        return [read_pss(pid) >> 20 for pid in (str(self.process.pid), *sorted(found, key=int))]


def read_pss(pid: str) -> int:
    """Memory of a process in bytes; what it shares with others counts by its share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10


def send(groups: list[list[Path]], port: int) -> None:
    """Send each group in an association of its own, all at a time."""
    command = [require_tool("storescu"), "-aec", "WETREAD", HERE, str(port)]
    senders = [subprocess.Popen([*command, *map(str, group)]) for group in groups]
    assert [sender.wait() for sender in senders] == [0] * len(senders)


def divide(paths: list[Path], associations: int) -> list[list[Path]]:
    """Deal the objects out to the associations."""
    return [paths[start::associations] for start in range(associations)]


def find_port() -> int:
    """Return a free port."""
    with socket.socket() as free:
        free.bind((HERE, 0))
        return int(free.getsockname()[1])


def wait_for_answer(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process answers C-ECHO."""
    while subprocess.run(
        [require_tool("echoscu"), "-aec", "WETREAD", HERE, str(port)], capture_output=True
    ).returncode:
        assert process.poll() is None, "it did not start"
        time.sleep(0.2)


@contextmanager
def run_node(folder: Path) -> Iterator[Node]:
    """Start a node, and stop it at the end."""
    port = find_port()
    output = folder / "node.csv"
    command = ["node", "--host", HERE, "--port", str(port), "--allow", "*@*", "--output", str(output)]
    process = subprocess.Popen([*WETREAD, *command, "--quiet"])
    node = Node(process, port, output)
    try:
        wait_for_answer(port, process)
        yield node
    finally:
        process.terminate()
        process.wait()


def measure_node(paths: list[Path], associations: int) -> float:
    """Return how many objects a second get their rows."""
    with tempfile.TemporaryDirectory() as folder, run_node(Path(folder)) as node:
        started = time.perf_counter()
        send(divide(paths, associations), node.port)
        node.wait_for(len(paths))
        return len(paths) / (time.perf_counter() - started)


@contextmanager
def run_score(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Score a folder; yield the process, and see at the end that it is over and well."""
    with tempfile.TemporaryDirectory() as place:
        line = ["score", str(folder), "--output", str(Path(place) / "score.csv"), "--quiet"]
        process = subprocess.Popen([*WETREAD, *line])
        yield process
        assert process.wait() == 0


def measure_score(folder: Path) -> float:
    """Return how many seconds `score` takes for the files, its start included."""
    started = time.perf_counter()
    with run_score(folder):
        pass
    return time.perf_counter() - started


def measure_bound(folder: Path, paths: list[Path], associations: int, *, keep: bool) -> float:
    """Return how many seconds `score` takes for the files while pynetdicom takes the same ones."""
    port = find_port()
    with tempfile.TemporaryDirectory() as store:
        return _measure_beside(folder, divide(paths, associations), port, store if keep else "")


def _measure_beside(folder: Path, groups: list[list[Path]], port: int, store: str) -> float:
    receiver = subprocess.Popen([sys.executable, __file__, "--receive", str(port), "--store", store])
    try:
        wait_for_answer(port, receiver)
        started = time.perf_counter()
        with run_score(folder):
            send(groups, port)
        return time.perf_counter() - started
    finally:
        receiver.terminate()
        receiver.wait()


def receive(port: int, store: str) -> None:
    """Take objects with pynetdicom, and write them to a folder or forget them, as fast as it can."""
    from pynetdicom import AE, evt

    from wetread.node.receiver import CLASSES, VERIFICATION
    from wetread.runtime.files.atomic import write_file

    def take(event: evt.Event) -> int:
        if store:
            name = f"{event.request.AffectedSOPInstanceUID}.dcm"
            write_file(Path(store, name), event.request.DataSet.getbuffer())
        return 0

    entity = AE("WETREAD")
    entity.maximum_pdu_size = 1 << 17
    for kind in (*CLASSES, VERIFICATION):
        entity.add_supported_context(kind)
    entity.start_server((HERE, port), evt_handlers=[(evt.EVT_C_STORE, take), (evt.EVT_C_ECHO, lambda _: 0)])


def compare(objects: int, rounds: int, side: int) -> None:
    """Print the median of the ratios within rounds, and their range."""
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as small:
        paths = draw_objects(Path(place), objects, side=side)
        draw_objects(Path(small), 1, side=side)
        found: dict[str, list[float]] = {}
        for turn in range(rounds):
            start = measure_score(Path(small))
            rate = objects / (measure_score(Path(place)) - start)
            rates = {}
            for count in ASSOCIATIONS:
                rates[f"{count} associations"] = measure_node(paths, count)
                for name, keep in (("bound", False), ("bound on the disk", True)):
                    seconds = measure_bound(Path(place), paths, count, keep=keep) - start
                    rates[f"{name}, {count}"] = objects / seconds
            shown = ", ".join(f"{name} {each:.1f}/s" for name, each in rates.items())
            print(f"round {turn + 1}: score {rate:.1f}/s, {shown}", flush=True)
            for name, each in rates.items():
                found.setdefault(name, []).append(each / rate)
    for name, ratios in found.items():
        middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
        print(f"{name}: {middle:.2f} of score ({least:.2f} to {most:.2f}, {rounds} rounds)")


def follow_memory(objects: int, side: int) -> None:
    """Print memory while objects come."""
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as work:
        paths = draw_objects(Path(place), objects, side=side)
        with run_node(Path(work)) as node:
            print(f"0 objects: {describe(node.read_memory())}")
            step = max(1000, objects // 10)
            for start in range(0, objects, step):
                part = paths[start : start + step]
                send(divide(part, 4), node.port)
                node.wait_for(start + len(part))
                print(f"{start + len(part):,} objects: {describe(node.read_memory())}", flush=True)


def describe(memory: list[int]) -> str:
    """Write the memory of a node and of its processes."""
    return f"{sum(memory)} MiB ({' + '.join(map(str, memory))})"


def main() -> None:
    """Compare, or follow the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--memory", type=int, default=0, metavar="OBJECTS")
    parser.add_argument("--receive", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--store", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.receive:
        receive(given.receive, given.store)
    elif given.memory:
        follow_memory(given.memory, given.side)
    else:
        compare(given.objects, given.rounds, given.side)


if __name__ == "__main__":
    main()
