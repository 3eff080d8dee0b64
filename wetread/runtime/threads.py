"""Process a stream on several threads, in order, with a limited number of items at a time.

`Executor.map` reads the whole stream at once; its `buffersize`, which does the same, came with Python 3.14.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int, name: str
) -> Iterator[Result]:
    """Yield `work(item)` for each item, in order, lazily, with at most `ahead` items in progress, or one.

    The threads take their items from `items` themselves, one at a time: if the caller's thread did, it would
    compete with each of them for the interpreter's lock. An error of `work` or `items` is raised at its
    item's position. When the caller stops, the threads are waited for, unless `items` has not answered for a
    second. Where the system allows no further thread, those that there are do the work, and the caller's.
    `name`: the prefix of the threads' names.
    """
    queue: _Queue[Item, Result] = _Queue(work, iter(items))
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    under_way: deque[Future[tuple[Result] | None]] = deque()
    submit = _Submit(pool)
    try:
        while not queue.is_over:
            under_way.append(queue.add())
            if not submit(queue.serve):
                queue.serve()
            if len(under_way) >= ahead:
                yield from _take_first(under_way)
        while under_way:
            yield from _take_first(under_way)
    finally:
        is_idle = queue.stop(_PATIENCE_SECONDS)
        pool.shutdown(wait=is_idle, cancel_futures=True)
        if is_idle:
            queue.close()


_PATIENCE_SECONDS = 1.0


class _Submit:
    """Submits calls to a pool; says whether a thread was there for it, or could be started."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool, self._has_thread, self._is_refused = pool, False, False

    def __call__(self, call: Callable[[], None]) -> bool:
        if self._is_refused and not self._has_thread:
            return False  # each call would stay in the pool's queue, and nobody takes it out
        try:
            self._pool.submit(call)
        except RuntimeError:  # "can't start new thread"
            self._is_refused = True
            return False
        self._has_thread = True
        return True


def _take_first(under_way: deque[Future[tuple[Result] | None]]) -> Iterator[Result]:
    """Yield the next result, or nothing where there was no item for it. Raises its error."""
    # No variable may hold the future: its error holds this frame.
    if (result := under_way.popleft().result()) is not None:
        yield result[0]


class _Queue(Generic[Item, Result]):
    """Items, and the places of their results: a thread takes the next of both at once.

    A result is a tuple of one, and None where there was no item.
    """

    def __init__(self, work: Callable[[Item], Result], items: Iterator[Item]) -> None:
        self._work, self._items, self._lock = work, items, threading.Lock()
        self._places: deque[Future[tuple[Result] | None]] = deque()
        self.is_over = False

    def add(self) -> Future[tuple[Result] | None]:
        """Add the place of one more result, for which `serve` must be called once."""
        place: Future[tuple[Result] | None] = Future()
        self._places.append(place)
        return place

    def serve(self) -> None:
        """Take the next item, and work on it."""
        with self._lock:
            if not self._places:  # what a failed start left behind
                return
            place = self._places.popleft()
            try:
                item = self._next()
            except BaseException as error:  # noqa: BLE001 - raised at its place in the order
                self.is_over = True
                place.set_exception(error)
                del place  # the error holds this frame
                return
        if item is None:
            place.set_result(None)
            return
        try:
            place.set_result((self._work(item[0]),))
        except Exception as error:  # noqa: BLE001 - raised at its place in the order
            place.set_exception(error)
        except BaseException as error:  # such as Ctrl-C, where the caller's thread serves
            place.set_exception(error)
            raise
        finally:
            del place, item  # an error holds this frame

    def _next(self) -> tuple[Item] | None:
        """Return the next item; None if there is none, or nobody wants it any more."""
        if self.is_over:
            return None
        try:
            item = next(self._items)
        except StopIteration:
            self.is_over = True
            return None
        return None if self.is_over else (item,)

    def stop(self, seconds: float) -> bool:
        """Let no further item be taken; return whether none is being taken, after so many seconds at most."""
        self.is_over = True
        answers = self._lock.acquire(timeout=seconds)
        if answers:
            self._lock.release()
        return answers

    def close(self) -> None:
        """Close a generator of items, here: the garbage collector would, in a thread that holds its locks."""
        if isinstance(self._items, Generator):
            self._items.close()


# Measured with benchmarks/ceiling.py: with fewer workers, or processors for them, processes gain a tenth, and
# only a long run gives back what they cost.
MANY_WORKERS = 8
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
