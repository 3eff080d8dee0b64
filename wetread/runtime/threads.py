"""Process a stream on several threads, in order, with a limited number of items at a time.

`Executor.map` reads the whole stream at once; its `buffersize`, which does the same, came with Python 3.14.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int, name: str
) -> Iterator[Result]:
    """Yield `work(item)` for each item, in order, lazily, with at most `ahead` items in progress.

    An error of `work` is raised at its item's position. When the caller stops, items that have not begun are
    dropped, and those in progress are waited for. `name`: the prefix of the threads' names.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def count_processors() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Windows and macOS
        return os.cpu_count() or 1
