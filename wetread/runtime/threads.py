"""Process a stream on several threads, in order, with a limited number of items at a time.

`Executor.map` reads the whole stream at once; its `buffersize`, which does the same, came with Python 3.14.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int, name: str
) -> Iterator[Result]:
    """Yield `work(item)` for each item, in order, lazily, with at most `ahead` items in progress.

    The threads themselves take the next item from `items`, one at a time: a thread that did it for them would
    compete with each for the interpreter's lock. An error of `work` or `items` is raised at its item's
    position. When the caller stops, those in progress are waited for. `name`: the prefix of the threads'
    names.
    """
    queue: _Queue[Item, Result] = _Queue(iter(items), ahead=ahead)
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        for _ in range(threads):
            pool.submit(queue.serve, work)
        while (result := queue.taken.get()) is not None:
            yield result.result()
            queue.permits.release()
    finally:
        queue.is_over = True
        queue.permits.release(threads)
        pool.shutdown(wait=True)


class _Queue(Generic[Item, Result]):
    """The items of one call, from which its threads take. `taken`: the results in order, then None."""

    def __init__(self, items: Iterator[Item], *, ahead: int) -> None:
        self._items, self._lock = items, threading.Lock()
        self.permits = threading.Semaphore(ahead)
        self.taken: SimpleQueue[Future[Result] | None] = SimpleQueue()
        self.is_over = False

    def serve(self, work: Callable[[Item], Result]) -> None:
        """Work on one item after another, until there are no more or the caller stops."""
        while (found := self._take()) is not None:
            result, item = found
            try:
                result.set_result(work(item))
            except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
                result.set_exception(error)
            del found, result, item  # or they are kept while this thread waits for its next one

    def _take(self) -> tuple[Future[Result], Item] | None:
        """Take the next item, when one may be in progress; None if there is none, or the listing failed."""
        self.permits.acquire()
        with self._lock:
            if self.is_over:
                self.permits.release()  # another thread may wait to learn the same
                return None
            result: Future[Result] = Future()
            try:
                item = next(self._items)
            except StopIteration:
                self._end(None)
                return None
            except BaseException as error:  # noqa: BLE001 - raised at its place in the order
                result.set_exception(error)
                self._end(result)
                return None
            self.taken.put(result)
            return result, item

    def _end(self, last: Future[Result] | None) -> None:
        self.is_over = True
        self.taken.put(last)
        self.permits.release()


# Measured with benchmarks/ceiling.py: with fewer workers, or processors for them, threads do as well as
# processes.
LEAST_WORKERS = 8
_CPU = ("", "cpu", "cpu,cpuacct", "cpuacct,cpu")


def is_locked() -> bool:
    """Whether threads share the interpreter's lock: not in free-threaded Python."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def count_processors() -> int:
    """Return the number of processors that this process may use, by its affinity and its container's quota.

    A quota of 1.5 processors counts as 2.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Windows and macOS
        return os.cpu_count() or 1
    quota = read_quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def read_quota(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> float | None:
    """Read how many processors Linux's control groups allow this process; None where they set no limit.

    Each group above its own may set one, and the least counts. Version 2 has `cpu.max` ("150000 100000"),
    version 1 two files.
    """
    allowed = [
        limit
        for folder in list_groups(root, own, _CPU)
        for limit in (_read_limit(folder / "cpu.max"), _read_old_limit(folder))
        if limit is not None
    ]
    return min(allowed, default=None)


def list_groups(root: str, own: str, controllers: Collection[str]) -> Iterator[Path]:
    """The folders of this process's control groups, and of those above them.

    `controllers`: as /proc/self/cgroup names them in version 1; '' for version 2.
    """
    try:
        lines = Path(own).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, found, name = line.split(":", 2)
        if found in controllers:
            mount = Path(root, found)
            group = Path(name.strip("/"))
            # Within a container the name is the host's, and the container's own group is the root.
            yield from (mount / place for place in (group, *group.parents))


def _read_limit(file: Path) -> float | None:
    return _divide(*_read_words(file)[:2])


def _read_old_limit(folder: Path) -> float | None:
    return _divide(*_read_words(folder / "cpu.cfs_quota_us"), *_read_words(folder / "cpu.cfs_period_us"))


def _read_words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _divide(*words: str) -> float | None:
    """A quota over its period; None for `max`, -1 and whatever else is no limit."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not int(words[1]):
        return None
    return int(words[0]) / int(words[1])
