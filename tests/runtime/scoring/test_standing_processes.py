"""Processes that stand by for months: never more than were asked for, and none that is idle for long."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.conftest import draw_image
from tests.runtime.scoring.process_run import read_here
from tests.runtime.scoring.test_processes import is_alive
from wetread.errors import Status
from wetread.runtime.entries import Entry
from wetread.runtime.scoring import processes, standing_processes
from wetread.runtime.scoring.chunk_scorer import ChunkOptions, ChunkPredictor
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.rows import Prediction
from wetread.runtime.scoring.standing_processes import Part, StandingProcesses, StoppedError, stand_by
from wetread.runtime.scoring.worker_process import Answer

QUIET: dict[str, Any] = {"stop": lambda: False, "report": lambda _: None, "beat": lambda: None}


class Worker:
    """What stands in for a process: it answers after a moment, unless it `fails` or ends."""

    alive: list[Worker]
    most = 0
    is_alive = True

    def __init__(self, _: bytes, *, fails: bool = False, ends: bool = False) -> None:
        self._fails, self._ends, self.failure = fails, ends, None
        Worker.alive.append(self)
        Worker.most = max(Worker.most, len(Worker.alive))

    def wait(self) -> bool:
        time.sleep(0.002)
        return not self._fails

    def ask(self, entries: list[Entry], fatal: tuple[int, ...]) -> Answer | None:
        time.sleep(0.002)
        return None if self._ends else Answer([entry.name for entry in entries])

    def say_goodbye(self) -> None:
        pass

    def close(self, **_: object) -> None:
        if self in Worker.alive:
            Worker.alive.remove(self)


@pytest.fixture(autouse=True)
def workers(monkeypatch) -> type[Worker]:
    Worker.alive, Worker.most = [], 0
    return Worker


def hold(monkeypatch, make: object, *, count: int, **more: object) -> StandingProcesses[object]:
    monkeypatch.setattr(processes, "WorkerProcess", lambda opening, _: make(opening))
    held: StandingProcesses[object] = StandingProcesses(
        None,
        count=count,
        otherwise=lambda _: ["a thread"],
        **more,  # type: ignore[arg-type]
    )
    held.begin()
    return held


def work(held: StandingProcesses[object], name: object = "a") -> object:
    """Work on a chunk of one entry; return what became of it."""
    ((_, found),) = held.work_on([Entry(str(name))])
    return found


def test_one_is_started_and_more_only_where_all_are_busy(monkeypatch, workers):
    held = hold(monkeypatch, workers, count=3)
    for number in range(20):
        assert work(held, number) == [str(number)]
    assert workers.most == 1
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda number: work(held, number), range(200)))
    assert found == [[str(number)] for number in range(200)]
    assert workers.most == 3
    held.close()
    assert workers.alive == []


def test_those_that_were_idle_for_long_are_ended_but_for_one(monkeypatch, workers):
    held = hold(monkeypatch, workers, count=4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: work(held), range(40)))
    held.rest()
    assert len(workers.alive) > 1
    monkeypatch.setattr(standing_processes, "IDLE_SECONDS", 0.0)
    time.sleep(0.01)
    for _ in range(2):
        held.rest()
        assert len(workers.alive) == 1
    assert work(held) == ["a"]
    held.close()


def refuse(_: bytes) -> Worker:
    raise PermissionError("no program may be started")


def test_a_thread_scores_where_no_process_can_be_started(monkeypatch, workers):
    for make in (partial(workers, fails=True), refuse):
        held = hold(monkeypatch, make, count=2)
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _: work(held), range(12)))  # noqa: B023
        assert found == [["a thread"]] * 12
        held.close()
        assert workers.alive == []


def test_where_no_second_one_can_be_started_the_first_does_all(monkeypatch, workers):
    made = []

    def make(setup: bytes) -> Worker:
        made.append(setup)
        return workers(setup, fails=len(made) > 1)

    monkeypatch.setattr(standing_processes, "_REST_SECONDS", 0.0)
    held = hold(monkeypatch, make, count=4)
    assert work(held) == ["a"]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: work(held), range(60)))
    assert found == [["a"]] * 60 and len(workers.alive) == 1
    held.close()


def test_no_second_one_is_started_where_memory_is_short(monkeypatch, workers):
    monkeypatch.setattr(processes, "read_free_memory", lambda: 100 << 20)
    held = hold(monkeypatch, workers, count=4)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: work(held), range(60)))
    assert found == [["a"]] * 60 and workers.most == 1
    held.close()


def test_processes_that_end_at_random_lose_no_answer(monkeypatch, workers):
    choose = random.Random(3)
    held = hold(monkeypatch, lambda setup: workers(setup, ends=choose.random() < 0.2), count=2)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda number: work(held, number), range(120)))
    assert found == [[str(number)] for number in range(120)] and workers.most == 2
    held.close()
    assert workers.alive == []


def test_who_waits_for_a_process_is_let_go_at_the_end(monkeypatch, workers):
    held = hold(monkeypatch, workers, count=1)
    taken = held.take()
    assert taken is not None
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(work(held)))
    waiting.start()
    time.sleep(0.05)
    assert waiting.is_alive()
    held.close()
    waiting.join(10)
    assert answers == [["a thread"]]


def test_no_input_is_blamed_for_processes_that_ended_while_they_were_idle(monkeypatch, workers):
    held = hold(monkeypatch, workers, count=6)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: work(held), range(60)))
    dead = list(workers.alive)
    assert len(dead) == 6
    for each in dead:
        each.is_alive, each._ends = False, True
    held.rest()
    assert work(held) == ["a"] and not set(dead) & set(workers.alive)
    held.close()


def test_a_chunk_whose_process_ended_waits_until_one_can_be_started(monkeypatch, workers):
    """It may be what ended the process: no thread of this one may touch it."""
    monkeypatch.setattr(standing_processes, "_PAUSE_SECONDS", 0.01)
    made, said, beats = [], [], []

    def make(opening: bytes) -> Worker:
        made.append(opening)
        if 1 < len(made) < 6:
            raise OSError(24, "Too many open files")
        return workers(opening, ends=len(made) == 1)

    held = hold(monkeypatch, make, count=1, report=said.append, beat=lambda: beats.append(1))
    assert work(held) == ["a"]
    text = "no worker process can be used: [Errno 24] Too many open files; it is tried again"
    assert said == ["", *[text] * 4, ""] and beats
    held.close()


def test_a_chunk_without_a_process_is_given_up_where_the_command_stops(monkeypatch, workers):
    monkeypatch.setattr(standing_processes, "_PAUSE_SECONDS", 0.01)
    made, stopped = [], threading.Event()

    def make(opening: bytes) -> Worker:
        made.append(opening)
        if len(made) > 4:
            stopped.set()
        return workers(opening, ends=len(made) == 1, fails=len(made) > 1)

    held = hold(monkeypatch, make, count=1, stop=stopped.is_set)
    with pytest.raises(StoppedError):
        work(held)
    held.close()
    assert workers.alive == []


def test_processes_that_end_whatever_they_are_asked_are_started_now_and_then(monkeypatch, workers):
    monkeypatch.setattr(standing_processes, "_PAUSE_SECONDS", 0.2)
    made, said, stopped = [], [], threading.Event()

    def make(opening: bytes) -> Worker:
        made.append(opening)
        return workers(opening, ends=True)

    held = hold(monkeypatch, make, count=1, stop=stopped.is_set, report=said.append)
    threading.Timer(1.0, stopped.set).start()
    with pytest.raises(StoppedError):
        work(held)
    assert 5 < len(made) < 12
    assert set(filter(None, said)) == {
        "no worker process can be used: each ends, whatever it is asked; it is tried again"
    }
    held.close()


@pytest.mark.parametrize("stops", [False, True])
def test_a_start_that_never_ends_is_ended(monkeypatch, workers, stops):
    monkeypatch.setattr(standing_processes, "_START_SECONDS", 3600.0 if stops else 0.1)
    monkeypatch.setattr(standing_processes, "_LOOK_SECONDS", 0.02)
    stopped = threading.Event()

    class Hanging(Worker):
        killed = None

        def wait(self) -> bool:
            self.killed = threading.Event()
            assert self.killed.wait(10)
            return False

        def kill(self) -> None:
            self.killed.set()

    held = hold(monkeypatch, Hanging, count=1, stop=stopped.is_set)
    if stops:
        threading.Timer(0.1, stopped.set).start()
    assert work(held) == ["a thread"]
    held.close()


def test_memory_that_is_short_ends_a_process(monkeypatch, workers):
    class Short(Worker):
        def ask(self, entries: list[Entry], fatal: tuple[int, ...]) -> Answer:
            if len(entries) > 1 or (entries[0].name == "huge" and not fatal):
                return Answer(None, MemoryError())
            return Answer([entry.name for entry in entries])

    held = hold(monkeypatch, Short, count=1)
    parts = held.work_on([Entry("a"), Entry("huge"), Entry("b")])
    assert parts == [([Entry(name)], [name]) for name in ("a", "huge", "b")]
    held.close()


@pytest.fixture(scope="module")
def classifier(toy_model) -> Classifier:
    return Classifier(toy_model, device="cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # of which the second decodes in processes alone
def test_predictions_are_those_of_threads_whoever_is_killed(classifier, tmp_path, device, monkeypatch):
    for index in range(8):
        (tmp_path / f"i{index}.jpg").write_bytes(draw_image(index) if index else b"text")
    entries = [Entry(str(place)) for place in sorted(tmp_path.iterdir())]
    how = ChunkOptions(dicom_tags=(), refuse_outside=False, batch_size=4, max_memory=1 << 30)
    scorer = ChunkPredictor(classifier, how, read=read_here)
    monkeypatch.setattr(classifier, "device", device)
    division = scorer.divide(classifier, read=read_here)

    def join(parts: list[Part[Any]]) -> list[Prediction]:
        return [row for part in parts for chunk in division.finish(*part) for row in chunk.predictions]

    wanted = [row for chunk in scorer.score(entries) for row in chunk.predictions]
    with stand_by(lambda _: pytest.fail("a thread scored"), division.opening, workers=1, **QUIET) as standing:
        for _ in range(3):
            assert join(standing.work_on(entries)) == wanted
            (process,) = standing._all
            os.kill(process._process.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        (tmp_path / "kills.jpg").write_bytes(draw_image(1))
        *others, last = join(standing.work_on([*entries, Entry(str(tmp_path / "kills.jpg"))]))
        assert others == wanted and last.status == Status.UNREADABLE
        started = [process._process.pid for process in standing._all]
    assert started and not any(map(is_alive, started))


def test_threads_work_in_a_frozen_program(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with stand_by(len, None, workers=2, **QUIET) as standing:  # type: ignore[arg-type]
        assert standing.work_on([Entry("a")]) == [([Entry("a")], 1)]
        standing.rest()
