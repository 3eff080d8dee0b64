"""Worker processes: the rows of threads, whatever becomes of a process, and none that is left behind."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tests.conftest import draw_image
from tests.runtime.scoring.process_run import only_processes
from wetread.errors import SlowImageWarning, SourceError
from wetread.runtime.entries import Entry
from wetread.runtime.scoring import processes
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, score_to_file
from wetread.runtime.scoring.shared_memory import Lease, Trays, can_share
from wetread.runtime.scoring.worker_process import Answer, _make_portable

LINUX = pytest.mark.skipif(
    os.name == "nt" or not Path("/proc/self/stat").exists(), reason="processes are found in /proc"
)


@pytest.fixture(scope="module")
def classifier(toy_model) -> Classifier:
    return Classifier(toy_model, device="cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Sixty inputs; every seventh is no image."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(60):
        (folder / f"i{index:02d}.jpg").write_bytes(draw_image(index) if index % 7 else b"text")
    return folder


@pytest.fixture
def options(images, tmp_path) -> ScoreOptions:
    return ScoreOptions(sources=(str(images),), output=str(tmp_path / "threads.csv"), batch_size=4, workers=2)


def score(classifier: Classifier, options: ScoreOptions) -> bytes:
    score_to_file(classifier, options)
    return Path(options.output).read_bytes()


def is_alive(pid: int) -> bool:
    if os.name == "nt":  # Wine shows Linux' /proc, with other numbers
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def find_children(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(place.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


def wait_until_gone(pids: list[int], *, seconds: float = 60) -> list[int]:
    """Wait for processes to end; return those that do not."""
    end = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return list(filter(is_alive, pids))


def test_processes_write_the_rows_of_threads(classifier, options, tmp_path):
    threads = replace(options, output=str(tmp_path / "threads.jsonl"))
    apart = replace(options, output=str(tmp_path / "apart.jsonl"))
    whole = score(classifier, threads)
    with only_processes() as started:
        assert score_to_file(classifier, apart, stop=lambda: True).interrupted
        assert 0 < Path(apart.output + ".part").stat().st_size < len(whole)
        assert score(classifier, replace(apart, resume=True)) == whole
    assert len(started) == 4
    assert not any(map(is_alive, started))


def test_processes_are_given_several_chunks_at_a_time(classifier, options, tmp_path, monkeypatch):
    whole, work, given = score(classifier, options), processes.Processes.work, []

    def note(self: processes.Processes, entries: list[Entry]) -> object:
        given.append(len(entries))
        return work(self, entries)

    monkeypatch.setattr(processes.Processes, "work", note)
    with only_processes():
        assert score(classifier, replace(options, output=str(tmp_path / "joined.csv"))) == whole
    assert given[0] == 4 < max(given) and sum(given) == 60


def test_the_threads_end_before_the_processes(classifier, options, images, monkeypatch):
    """Else they would begin further chunks themselves."""
    close, left = processes.Processes.close, []

    def note(self: processes.Processes) -> None:
        left.append([thread.name for thread in threading.enumerate() if thread.name.startswith("wetread_")])
        close(self)

    monkeypatch.setattr(processes.Processes, "close", note)
    with only_processes():
        score_to_file(classifier, replace(options, overwrite=True), stop=lambda: True)
    assert left == [[]]


def test_an_image_that_ends_its_process_loses_its_row_alone(classifier, options, images, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(10):
        os.link(images / f"i{index:02d}.jpg", folder / f"i{index:02d}.jpg")
    expected = score(classifier, replace(options, sources=(str(folder),))).splitlines()
    (folder / "kills.jpg").write_bytes(draw_image(1))
    with only_processes():
        rows = score(classifier, replace(options, sources=(str(folder),), output=str(tmp_path / "x.csv")))
    *others, last = rows.splitlines()
    assert others == expected
    assert last.startswith(os.fsencode(f"{folder}/kills.jpg") + b',unreadable,,,,,"It ended the process that')


def test_errors_and_warnings_come_through(classifier, options, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "slow.jpg").write_bytes(draw_image(1))
    chosen = replace(options, sources=(str(tmp_path / "in"),))
    with only_processes() as started:
        with pytest.warns(SlowImageWarning, match=r"slow\.jpg is slow"):
            score(classifier, chosen)
        (tmp_path / "in" / "outage.jpg").write_bytes(draw_image(2))
        with pytest.raises(SourceError, match="The disk is gone") as caught:
            score(classifier, replace(chosen, overwrite=True))
    assert "in read_here" in caught.value.__notes__[0]
    assert not any(map(is_alive, started))


def test_an_error_that_cannot_be_pickled_is_a_fault_with_its_traceback():
    class StrangeError(Exception):
        def __reduce__(self):
            raise TypeError

    try:
        raise StrangeError("of no known kind")
    except StrangeError as error:
        found = _make_portable(error)
    assert isinstance(found, RuntimeError)
    assert str(found) == "StrangeError: of no known kind"
    assert "in test_an_error_that_cannot_be_pickled" in pickle.loads(pickle.dumps(found)).__notes__[0]


def test_a_small_job_starts_no_process(classifier, options, monkeypatch):
    monkeypatch.setattr(processes, "count_processors", lambda: 2)
    monkeypatch.setattr(processes, "LONG_SECONDS", 3600)
    monkeypatch.setattr(processes, "WorkerProcess", lambda *_: pytest.fail("a process was started"))
    assert score(classifier, options).count(b"\n") == 61


class Device:
    """Stands for a session on a GPU: notes the shapes that it gets, and how many batches at a time.

    The first one takes until `first` lets it go.
    """

    def __init__(self, classifier: Classifier, monkeypatch) -> None:
        self._classify, self._lock = classifier.classify, threading.Lock()
        self.now, self.most, self.shapes = 0, 0, set()
        self.first: Callable[[Device], object] = lambda _: None
        monkeypatch.setattr(classifier, "device", "cuda")
        monkeypatch.setattr(classifier, "classify", self)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            is_first = not self.shapes
            self.shapes.add(images.shape)
        if is_first:
            self.first(self)
        time.sleep(0.01)
        found = self._classify(images)
        with self._lock:
            self.now -= 1
        return found


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Wait for what must happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def note_views(monkeypatch) -> list[int]:
    """Return the lengths of the arrays that come through shared memory from now on."""
    view, lengths = Lease.view, []

    def note(self: Lease, at: int, length: int) -> memoryview:
        lengths.append(length)
        return view(self, at, length)

    monkeypatch.setattr(Lease, "view", note)
    return lengths


@pytest.mark.parametrize("apart", ["", "pipes", "shared"])
def test_a_gpu_has_one_session_for_which_all_decode(toy_model, options, images, tmp_path, apart, monkeypatch):
    classifier = Classifier(toy_model, device="cpu")
    how = replace(options, workers=3, dicom_tags=("Modality",))
    whole = score(classifier, how)
    device, shared = Device(classifier, monkeypatch), note_views(monkeypatch)
    device.first = lambda _: until(lambda: device.most == 2)
    if apart == "pipes":
        monkeypatch.setattr(processes, "can_share", lambda: False)
    with only_processes() if apart else nullcontext([]) as started:
        assert score(classifier, replace(how, output=str(tmp_path / "x.csv"))) == whole
    assert len(shared) == (15 if apart == "shared" and can_share() else 0)
    assert len(started) == (3 if apart else 0) and not any(map(is_alive, started))
    assert device.shapes == {(4, *classifier.spec.pixels.shape)}
    assert device.most == 2


@pytest.mark.skipif(not can_share(), reason="this system has no memory without a name")
def test_shared_memory_is_gone_with_the_run(toy_model, options, tmp_path, monkeypatch):
    def count() -> int:
        links = (place for place in Path("/proc/self/fd").iterdir())
        return sum("memfd:wetread" in os.readlink(place) for place in links if place.is_symlink())

    classifier = Classifier(toy_model, device="cpu")
    Device(classifier, monkeypatch)
    shared = note_views(monkeypatch)
    gc.disable()
    try:
        with only_processes():
            score(classifier, replace(options, output=str(tmp_path / "x.csv")))
        assert shared and count() == 0
    finally:
        gc.enable()


def end() -> Callable[..., NoReturn]:
    """Open the work of a process that ends at its first request."""

    def work(*_: object, **__: object) -> NoReturn:
        os._exit(9)

    return work


@pytest.mark.skipif(not can_share(), reason="this system has no memory without a name")
def test_the_tray_of_a_process_that_ends_is_lent_again_once_it_has_ended():
    trays = Trays(1, 4096)
    for _ in range(3):
        process = processes.WorkerProcess(pickle.dumps((end, trays)), trays)
        assert process.wait()
        assert process.ask([Entry("a.jpg")], ()) is None
        assert trays.lend() is None  # for all that is known it still writes there
        process.close()
        assert trays.lend() is not None
    trays.close()


def test_a_gpu_computes_while_the_processes_are_busy(toy_model, options, tmp_path, monkeypatch):
    """A process that has decoded is free for the next chunk before the device has answered."""
    classifier = Classifier(toy_model, device="cpu")
    device = Device(classifier, monkeypatch)
    work, busy, seen = processes.Processes.work, [], []
    device.first = lambda _: until(lambda: 2 in seen)

    def note_work(self: processes.Processes, entries: list[Entry]) -> object:
        busy.append(entries)
        if device.now:
            seen.append(len(busy))
        try:
            return work(self, entries)
        finally:
            busy.remove(entries)

    monkeypatch.setattr(processes.Processes, "work", note_work)
    monkeypatch.setenv("WETREAD_TEST_SLOW", "0.005")
    with only_processes():
        score(classifier, replace(options, output=str(tmp_path / "x.csv"), workers=2))
    assert max(seen) == 2


def test_an_image_that_ends_its_process_loses_its_row_alone_beside_a_gpu(
    toy_model, options, images, tmp_path, monkeypatch
):
    (folder := tmp_path / "images").mkdir()
    for index in range(10):
        os.link(images / f"i{index:02d}.jpg", folder / f"i{index:02d}.jpg")
    classifier = Classifier(toy_model, device="cpu")
    Device(classifier, monkeypatch)
    expected = score(classifier, replace(options, sources=(str(folder),))).splitlines()
    (folder / "kills.jpg").write_bytes(draw_image(1))
    with only_processes():
        rows = score(classifier, replace(options, sources=(str(folder),), output=str(tmp_path / "x.csv")))
    *others, last = rows.splitlines()
    assert others == expected
    assert last.startswith(os.fsencode(f"{folder}/kills.jpg") + b',unreadable,,,,,"It ended the process that')


def test_threads_score_where_no_process_starts(classifier, options, tmp_path, monkeypatch):
    whole = score(classifier, options)
    monkeypatch.setattr(processes, "count_processors", lambda: 2)
    monkeypatch.setattr(processes, "LONG_SECONDS", 0)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert score(classifier, replace(options, output=str(tmp_path / "again.csv"))) == whole


def test_where_no_thread_starts_the_main_one_scores(classifier, options, tmp_path, monkeypatch):
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    whole = score(classifier, options)
    monkeypatch.setattr(processes, "count_processors", lambda: 2)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert score(classifier, replace(options, output=str(tmp_path / "alone.csv"))) == whole


@pytest.mark.parametrize(
    ("workers", "processors", "count", "patience"),
    [(8, 8, 8, 1), (8, 4, 4, 10), (4, 32, 4, 10), (64, 16, 16, 1), (1, 8, 0, 0), (8, 1, 0, 0)],
)
def test_processes_are_used_soon_where_processors_are_many(workers, processors, count, patience, monkeypatch):
    made = []
    monkeypatch.setattr(processes, "count_processors", lambda: processors)
    monkeypatch.setattr(processes.Processes, "close", lambda self: made.append(self))
    with processes.use_processes(print, None, workers=workers) as working:
        assert (working.work is not print) == (count > 0)
        assert working.most_entries() == 0
    found = [(each._count, each._starter.interval) for each in made]
    assert found == ([(count, patience)] if count else [])


class Worker:
    """What `Processes` takes for a process: `answers` are given one by one, an exception is raised."""

    def __init__(self, answers: list[object]) -> None:
        self.answers, self.failure, self.closed, self.is_alive = answers, None, False, True

    def wait(self) -> bool:
        return True

    def ask(self, entries: list[Entry], fatal: tuple[int, ...]) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def say_goodbye(self) -> None:
        self.closed = True

    def close(self, **_: object) -> None:
        self.closed = True


def hold(worker: Worker, monkeypatch, *others: Worker) -> processes.Processes:
    """Return processes of which `worker` is ready, and that start `others` afterwards."""
    left = list(others)
    monkeypatch.setattr(processes, "WorkerProcess", lambda *_: left.pop(0))
    held = processes.Processes(
        None, count=1, patience=0.0, otherwise=lambda _: pytest.fail("a thread scored")
    )
    monkeypatch.setattr(held, "begin", lambda: None)
    held._all.append(worker)
    held.give_back(worker)
    return held


def test_a_process_is_not_asked_again_after_an_error_on_the_way(monkeypatch):
    """Its next answer would be another chunk's rows."""
    worker = Worker([MemoryError()])
    held = hold(worker, monkeypatch)
    with pytest.raises(MemoryError):
        held.work([Entry("a.jpg")])
    assert worker.closed and held._idle == [] and held._all == []


def test_a_chunk_keeps_the_process_that_is_started_for_it(monkeypatch):
    """No other thread may take it, and no second one is started."""
    first, second = Worker([None]), Worker([Answer(rows := object())])  # type: ignore[arg-type]
    held = hold(first, monkeypatch, second)
    assert held.work([Entry("a.jpg")]) is rows
    assert first.closed and held._all == held._idle == [second]


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 128), (0.05, 64), (2.0, 1)])
def test_a_process_is_given_as_much_as_it_does_in_a_tenth_of_a_second(seconds, most, monkeypatch):
    worker, clock = Worker([Answer(object())]), itertools.count(0.0, seconds)
    held = hold(worker, monkeypatch)
    monkeypatch.setattr(processes, "monotonic", lambda: next(clock))
    assert held.most_entries == 0
    held.work([Entry(f"{index}.jpg") for index in range(32)])
    assert held.most_entries == most


def test_a_process_that_prints_before_it_serves_is_not_used(monkeypatch):
    code = "import sys; sys.stdout.write('hello ' * 9); sys.stdout.flush(); sys.stdin.read()"
    monkeypatch.setattr(processes, "_CODE", code.replace("{", "{{"))
    process = processes.WorkerProcess(b"")
    assert not process.wait() and process.failure is not None
    process.close()


def test_no_process_starts_for_objects_of_a_bucket_or_without_memory(monkeypatch):
    monkeypatch.setattr(processes, "LONG_SECONDS", 0)
    monkeypatch.setattr(processes, "read_free_memory", lambda: 100 << 20)
    monkeypatch.setattr(processes, "WorkerProcess", lambda *_: pytest.fail("a process was started"))
    held = processes.Processes(None, count=8, patience=0.0, otherwise=lambda entries: len(entries))
    assert held.work([Entry("gs://b/a.jpg")]) == 1 and not held._starter.is_alive()
    assert held.work([Entry("a.jpg")]) == 1
    held._starter.join()
    held.close()


def test_a_run_that_ends_while_processes_start_says_nothing(classifier, options, monkeypatch, capfd):
    monkeypatch.setattr(processes, "count_processors", lambda: 2)
    monkeypatch.setattr(processes, "count_processors", lambda: 4)
    monkeypatch.setattr(processes, "LONG_SECONDS", 0.0)
    for _ in range(5):
        score(classifier, replace(options, overwrite=True, workers=4))
    assert capfd.readouterr().err == ""


@LINUX
def test_a_signal_for_the_whole_group_leaves_the_rows(classifier, toy_model, options, images, tmp_path):
    """systemd and schedulers send SIGTERM to each process of a job."""
    whole, output = score(classifier, options), tmp_path / "terminated.csv"
    run = start(images, output, toy_model)
    wait_for_rows(output, run)
    for worker in (workers := find_children(run.pid)):
        os.kill(worker, signal.SIGTERM)
    assert workers and run.wait(60) == 3  # some inputs are no images
    assert output.read_bytes() == whole


def start(images: Path, output: Path, model: str, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.runtime.scoring.process_run", "score", str(images)]
    command += ["--output", str(output), "--model", model, "--workers", "2", "--batch-size", "4", "--quiet"]
    return subprocess.Popen([*command, *more], env=os.environ | {"WETREAD_TEST_SLOW": "0.02"})


def wait_for_rows(output: Path, run: subprocess.Popen) -> None:
    """Wait for the first rows, which processes write."""
    part = Path(f"{output}.part")
    while run.poll() is None and not (part.exists() and part.stat().st_size > 200):
        time.sleep(0.01)


@LINUX
@pytest.mark.long
def test_fifty_kills_of_the_main_process(classifier, toy_model, options, images, tmp_path):
    whole, output, choose = score(classifier, options), tmp_path / "killed.csv", random.Random(15)
    killed = 0
    for _ in range(50):
        run = start(images, output, toy_model, "--overwrite")
        wait_for_rows(output, run)
        time.sleep(choose.uniform(0, 0.5))
        workers = find_children(run.pid)
        run.send_signal(signal.SIGKILL)
        killed += run.wait() == -signal.SIGKILL
        assert wait_until_gone(workers) == []
        assert score(classifier, replace(options, output=str(output), resume=True)) == whole
        output.unlink()
    assert killed > 25  # the rest ended before


@LINUX
@pytest.mark.long
def test_fifty_kills_of_a_worker(classifier, toy_model, options, images, tmp_path):
    whole, output, choose = score(classifier, options), tmp_path / "hit.csv", random.Random(16)
    killed = 0
    for _ in range(50):
        run = start(images, output, toy_model, "--overwrite")
        wait_for_rows(output, run)
        time.sleep(choose.uniform(0, 0.2))
        for worker in find_children(run.pid)[:1]:
            os.kill(worker, signal.SIGKILL)
            killed += 1
        assert run.wait() == 3  # some inputs are no images
        assert output.read_bytes() == whole
    assert killed > 25


@LINUX
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT")
def test_an_interrupt_of_the_terminal_ends_within_a_chunk(toy_model, images, tmp_path):
    output = tmp_path / "stopped.csv"
    run = start(images, output, toy_model)
    wait_for_rows(output, run)
    workers = find_children(run.pid)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    assert wait_until_gone(workers) == []
    assert Path(f"{output}.part").exists()
