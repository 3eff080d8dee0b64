from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor as Pool
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wetread.runtime import threads
from wetread.runtime.threads import count_processors, map_in_order, read_quota


@given(items=st.lists(st.integers()), threads=st.integers(1, 4), ahead=st.integers(0, 9))
def test_results_are_in_order_and_few_are_taken_ahead(items, threads, ahead):
    taken = 0

    def take():
        nonlocal taken
        for item in items:
            taken += 1
            yield item

    found = []
    for result in map_in_order(lambda x: x * 2, take(), threads=threads, ahead=ahead, name="test"):
        found.append(result)
        assert taken - len(found) < max(1, ahead)
    assert found == [item * 2 for item in items]


def test_an_error_stands_in_its_place_and_the_threads_end():
    results = map_in_order(lambda x: 6 // x, [1, 2, 0, 3], threads=2, ahead=2, name="ends")
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ends")]


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_where_no_further_thread_starts_the_caller_works_too(allowed, monkeypatch):
    """As under a limit on a user's processes (ulimit -u), which counts threads."""
    start, started = threading.Thread.start, []

    def start_few(thread: threading.Thread) -> None:
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start_few)
    slow = lambda item: (time.sleep(0.001), 2 * item)[1]  # noqa: E731 - so that no thread is idle
    assert list(map_in_order(slow, range(50), threads=4, ahead=8, name="few")) == list(range(0, 100, 2))
    results = map_in_order(lambda x: 6 // x, [1, 0], threads=2, ahead=2, name="few")
    assert next(results) == 6
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_alone_the_caller_leaves_nothing_behind_and_is_interrupted_at_once(monkeypatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    begun: list[int] = []

    def interrupt(item: int) -> int:
        begun.append(item)
        if item == 5:
            raise KeyboardInterrupt
        return item

    monkeypatch.setattr(threading.Thread, "start", refuse)
    made = []
    monkeypatch.setattr(
        threads, "ThreadPoolExecutor", lambda *a, **k: made.append(pool := Pool(*a, **k)) or pool
    )
    with pytest.raises(KeyboardInterrupt):
        list(map_in_order(interrupt, range(50), threads=4, ahead=8, name="alone"))
    assert begun == [0, 1, 2, 3, 4, 5]
    assert made[0]._work_queue.qsize() <= 2  # the first call, and what shutdown adds


@pytest.mark.parametrize("taken", [0, 3, 20])
def test_the_generator_of_items_is_closed_with_its_reader(taken):
    closed_by: list[str] = []

    def list_items() -> Iterator[int]:
        try:
            yield from range(20)
        finally:
            closed_by.append(threading.current_thread().name)

    items = list_items()  # held here, so that no reference count closes it
    results = map_in_order(str, items, threads=2, ahead=4, name="closes")
    for _ in range(taken):
        next(results)
    results.close()
    assert len(closed_by) == (taken > 0)
    assert next(items, "closed") == ("closed" if taken else 0)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_the_items_stands_behind_what_came_before_it(threads):
    def fail() -> Iterator[int]:
        yield from range(5)
        raise LookupError("the listing broke off")

    found: list[str] = []
    with pytest.raises(LookupError, match="broke off"):
        found.extend(map_in_order(str, fail(), threads=threads, ahead=2 * threads, name="breaks"))
    assert found == ["0", "1", "2", "3", "4"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("breaks")]


def test_items_are_taken_one_at_a_time_by_many_threads():
    """A generator that is entered twice would raise ValueError."""
    busy = threading.Lock()

    def take() -> Iterator[int]:
        for item in range(300):
            assert busy.acquire(blocking=False)
            time.sleep(1e-5)
            busy.release()
            yield item

    assert list(map_in_order(int, take(), threads=8, ahead=16, name="many")) == list(range(300))


def test_a_caller_that_goes_away_ends_the_threads():
    results = map_in_order(str, range(1000), threads=2, ahead=4, name="leaves")
    assert next(results) == "0"
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("leaves")]


def test_nothing_is_worked_on_after_the_caller_went_away():
    """A thread that was waiting for its item then throws it away."""
    going, worked = threading.Event(), []

    def take() -> Iterator[int]:
        yield 0
        going.wait(60)
        yield 1

    results = map_in_order(worked.append, take(), threads=1, ahead=2, name="late")
    next(results)
    threading.Timer(0.1, going.set).start()
    results.close()
    assert worked == [0]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("late")]


def test_a_caller_that_goes_away_does_not_wait_long_for_items_that_do_not_come(monkeypatch):
    """A share that does not answer: Ctrl-C in a notebook."""
    monkeypatch.setattr(threads, "_PATIENCE_SECONDS", 0.05)
    going = threading.Event()

    def take() -> Iterator[int]:
        yield 0
        going.wait(60)

    results = map_in_order(str, take(), threads=2, ahead=4, name="stuck")
    assert next(results) == "0"
    results.close()
    assert not going.is_set()
    going.set()
    left = [thread for thread in threading.enumerate() if thread.name.startswith("stuck")]
    for thread in left:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("fails", ["work", "items"])
def test_an_error_holds_nothing_once_it_is_handled(fails):
    """What worked may hold large arrays, and items the threads of another call."""

    class Large:
        pass

    seen: list[weakref.ref[Large]] = []

    def raise_with_it() -> None:
        large = Large()
        seen.append(weakref.ref(large))
        raise ValueError("broken")

    def take() -> Iterator[int]:
        yield from range(3)
        if fails == "items":
            raise_with_it()
        yield from range(1000)

    def work(item: int) -> int:
        if fails == "work":
            raise_with_it()
        return item

    gc.disable()
    try:
        inner = map_in_order(int, take(), threads=2, ahead=2, name="inner")
        with suppress(ValueError):
            list(map_in_order(work, inner, threads=2, ahead=2, name="outer"))
        del inner
        assert seen
        assert [each() for each in seen] == [None] * len(seen)
        assert not [each for each in threading.enumerate() if each.name.startswith(("inner", "outer"))]
    finally:
        gc.enable()


def test_a_program_ends_whose_results_were_not_all_taken():
    code = (
        "from wetread.runtime.threads import map_in_order\n"
        "results = map_in_order(str, range(1000), threads=2, ahead=4, name='left')\n"
        "print(next(results))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("0\n", 0)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 0.5),
        ("0::/of/the/host\n", {"cpu.max": "200000 100000"}, 2.0),
        ("3:cpu,cpuacct:/x\n2:memory:/x\n", {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000"}, 3.0),
        ("3:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1"}, None),
        ("3:cpu:/\n0::/\n", {"cpu.max": "broken"}, None),
        ("", {}, None),
    ],
)
def test_what_a_container_allows(tmp_path, own, files, expected):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
        if "quota" in name:
            file.with_name("cpu.cfs_period_us").write_text("100000\n")
    assert read_quota(str(tmp_path), str(tmp_path / "own")) == expected


@pytest.mark.parametrize(
    ("quota", "cores", "expected"), [(0.5, 8, 1), (1.5, 8, 2), (9.0, 2, 2), (None, 4, 4)]
)
def test_a_quota_counts_whole_processors(monkeypatch, quota, cores, expected):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(threads, "read_quota", lambda: quota)
    assert count_processors() == expected


@pytest.fixture
def limited() -> Iterator[Path]:
    """A control group of this machine's that allows half a processor, by either version of them."""
    if sys.platform != "linux":
        pytest.skip("control groups are Linux's")
    for root in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")):
        group = root / f"wetread-test-{os.getpid()}"
        try:
            group.mkdir()
            if (group / "cpu.max").exists():
                (group / "cpu.max").write_text("50000 100000")
            else:
                (group / "cpu.cfs_quota_us").write_text("50000")
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no control group may be made here")


def test_a_real_quota_is_counted(limited):
    code = "from wetread.runtime import threads; print(threads.read_quota(), threads.count_processors())"
    begin = f'echo $$ >{limited}/cgroup.procs && exec "$0" -c "$1"'
    done = subprocess.run(["sh", "-c", begin, sys.executable, code], capture_output=True, text=True)
    assert done.stdout == "0.5 1\n", done.stderr
