"""Worker processes behind the worker threads: each thread passes its chunks on to a process.

The threads, their order, their bounds and how they stop stay as they are. The processes are started when a
run has lasted a while, and threads score until they are ready: a small job pays nothing. With many workers
the interpreter's lock, which threads share, costs more than processes do.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from wetread.environment import name_python
from wetread.errors import MachineError
from wetread.runtime.entries import Entry, is_bucket_location
from wetread.runtime.scoring.row_encoding import Rows
from wetread.runtime.scoring.worker_process import Answer, Setup, receive, send
from wetread.runtime.threads import LEAST_WORKERS, count_processors, is_locked

PATIENCE_SECONDS = 1.0
_GOODBYE_SECONDS = 5.0
_TRIES = 2
_CODE = """
import sys
sys.path[:] = {path!r}
from wetread.runtime.scoring.worker_process import serve
serve()
"""

Score = Callable[[list[Entry]], Rows]


@contextmanager
def use_processes(score: Score, setup: Setup, *, workers: int, device: str) -> Iterator[Score]:
    """Return what scores a chunk in a process, or `score` itself where processes do not pay."""
    count = min(workers, count_processors())
    if count < LEAST_WORKERS or device != "cpu" or not is_locked() or not sys.executable:
        yield score
        return
    processes = Processes(setup, count=count, otherwise=score)
    try:
        yield processes.score
    finally:
        processes.close()


class WorkerProcess:
    """One worker process. It is ready to score when `wait` has returned true."""

    def __init__(self, setup: Setup) -> None:
        self._process = subprocess.Popen(
            [*name_python(), "-c", _CODE.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # errors and warnings come in answers
            # Ctrl-C on a terminal is the main process's to answer.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._requests = cast(BinaryIO, self._process.stdin)
        self._answers = cast(BinaryIO, self._process.stdout)
        self._setup = setup
        self.ready = False

    def wait(self) -> bool:
        """Wait until the model is open; return false if the process ended before."""
        self.ready = self._ask(self._setup) is not None
        return self.ready

    def score(self, entries: list[Entry], fatal: tuple[int, ...]) -> Rows | None:
        """Score a chunk as `ChunkScorer.score` does; None if the process ended meanwhile."""
        answer: Answer | None = self._ask(([tuple(entry) for entry in entries], fatal))
        if answer is None:
            return None
        for category, words in answer.warnings:
            warnings.warn(words, category, stacklevel=2)
        if answer.error is not None:
            raise answer.error
        return answer.rows

    def _ask(self, message: object) -> Any:
        try:
            send(self._requests, message)
            return receive(self._answers)
        except OSError:
            return None

    def say_goodbye(self) -> None:
        """Let the process end. One that is not ready is ended: a thread may wait for its answer."""
        if not self.ready:
            self._process.kill()
            return
        with suppress(OSError):  # it is gone already
            self._requests.close()

    def close(self) -> None:
        """Wait for the end of the process, and end it if it does not come."""
        self.say_goodbye()
        try:
            self._process.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._requests, self._answers):
            with suppress(OSError):
                stream.close()


class Processes:
    """`count` worker processes, one for each processor, for as many threads that call `score`, or more."""

    def __init__(self, setup: Setup, *, count: int, otherwise: Score) -> None:
        self._setup, self._count, self._otherwise = setup, count, otherwise
        self._lock = threading.Lock()
        self._all: list[WorkerProcess] = []
        self._idle: list[WorkerProcess] = []
        self._closed = False
        self._starter = threading.Timer(PATIENCE_SECONDS, self._start_all)
        self._starter.daemon = True
        self._starter.start()

    def _start_all(self) -> None:
        """Start all processes at once; each is used as soon as it is ready."""
        started = filter(None, [self._start() for _ in range(self._count)])
        with ThreadPoolExecutor(self._count, thread_name_prefix="wetread-start") as pool:
            list(pool.map(self._make_ready, started))

    def _start(self) -> WorkerProcess | None:
        """Start a process; None where that is impossible, and threads go on scoring."""
        with self._lock:
            if self._closed:
                return None
            try:
                process = WorkerProcess(self._setup)
            except OSError:
                return None
            self._all.append(process)
            return process

    def _make_ready(self, process: WorkerProcess) -> None:
        if process.wait():
            self._give_back(process)
        else:
            self._discard(process)

    def _take(self) -> WorkerProcess | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, process: WorkerProcess) -> None:
        with self._lock:
            self._idle.append(process)

    def _discard(self, process: WorkerProcess) -> None:
        with self._lock:
            if process not in self._all:
                return  # it is being closed
            self._all.remove(process)
        process.close()

    def score(self, entries: list[Entry]) -> Rows:
        """Score a chunk in a process, or on this thread while none is ready, and for objects of a bucket.

        A chunk whose process ends is tried again, and then each of its images alone. Those that end a
        process alone, too, are not read any more. Raises MachineError if that does not help.
        """
        process = None if any(is_bucket_location(entry.name) for entry in entries) else self._take()
        if process is None:
            return self._otherwise(entries)
        return self._score_with(process, entries) or self._try(entries) or self._score_survivors(entries)

    def _score_survivors(self, entries: list[Entry]) -> Rows:
        alone = [any(self._try([entry]) for _ in range(_TRIES)) for entry in entries]
        rows = self._try(entries, tuple(at for at, survived in enumerate(alone) if not survived))
        if rows is None:
            raise MachineError(
                f"Worker processes end while they score {entries[0].name!r} and the inputs after it, of "
                "which none alone ends one. Perhaps memory is short: use fewer --workers."
            )
        return rows

    def _try(self, entries: list[Entry], fatal: tuple[int, ...] = ()) -> Rows | None:
        """Score in an idle process; None if it ends."""
        process = self._take()
        if process is None:  # there are more threads, or one that ended is being replaced
            self._replace()
            process = self._take()
        return None if process is None else self._score_with(process, entries, fatal)

    def _score_with(
        self, process: WorkerProcess, entries: list[Entry], fatal: tuple[int, ...] = ()
    ) -> Rows | None:
        """Score in a process, which is idle again afterwards; None if it ended: then another is started."""
        try:
            rows = process.score(entries, fatal)
        except Exception:
            self._give_back(process)
            raise
        if rows is None:
            self._discard(process)
            self._replace()
        else:
            self._give_back(process)
        return rows

    def _replace(self) -> None:
        """Start a process in place of one that ended. Raises MachineError if that is impossible."""
        process = self._start()
        if process is not None:
            self._make_ready(process)
        if process is None or not process.ready:
            raise MachineError(
                "A worker process ended, and none can be started in its place. Perhaps memory is short: use "
                "fewer --workers."
            )

    def close(self) -> None:
        """End all processes."""
        self._starter.cancel()
        with self._lock:
            self._closed = True
            left, self._all, self._idle = self._all, [], []
        for process in left:
            process.say_goodbye()
        for process in left:
            process.close()
        self._starter.join()
