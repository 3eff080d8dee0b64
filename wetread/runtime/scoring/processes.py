"""Worker processes behind the worker threads: each thread passes its chunks on to a process.

The threads, their order, their bounds and how they stop stay as they are. The processes are started when a
run has lasted a while, and threads score until they are ready: a small job pays nothing. In a long one the
interpreter's lock, which threads share, costs more than processes do, and sooner so with many workers.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, BinaryIO, Generic, TypeVar, cast

from wetread.environment import name_python
from wetread.errors import MachineError
from wetread.runtime.entries import Entry, is_bucket_location
from wetread.runtime.machine import read_free_memory
from wetread.runtime.scoring.shared_memory import Lease, Trays, can_share
from wetread.runtime.scoring.worker_process import Answer, Opening, receive, send, send_pickled
from wetread.runtime.threads import MANY_WORKERS, count_processors, is_locked, map_in_order

# After the first chunk of files, with many workers and with fewer: by then the processes, half a second of
# processor time each, are less than what they gain if the run goes on for as long again.
PATIENCE_SECONDS, LONG_SECONDS = 1.0, 10.0
# A worker that has just started holds 97 MB with a model of 954 kB; images come on top.
WORKER_BYTES = 256 << 20
_GOODBYE_SECONDS = 5.0
TRIES = 2
# What asks the whole group of processes to stop is the main process's to answer, from the first line on.
_CODE = """
import signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
sys.path[:] = {path!r}
from wetread.runtime.scoring.worker_process import serve
serve()
"""

# A process is given as many entries at a time as it did in so many seconds when it was asked last, or one
# chunk: each request costs the main process as much as listing 50 files. Not many more than a chunk has: the
# next ones may take longer, and Ctrl-C waits for them.
_REQUEST_SECONDS, _MOST_ENTRIES = 0.1, 128
# More trays than processes: of chunks that come back while the main process still computes others.
_SPARE_TRAYS = 4

Result = TypeVar("Result")
DoWork = Callable[[list[Entry]], Result]


@dataclass(frozen=True)
class Working(Generic[Result]):
    """What works on a chunk, or on neighbouring ones that together have at most `most_entries()` entries."""

    work: DoWork[Result]
    most_entries: Callable[[], int] = lambda: 0


@contextmanager
def use_processes(
    work: DoWork[Result], opening: Opening, *, workers: int, tray: int = 0
) -> Iterator[Working[Result]]:
    """Work on chunks in processes, or by `work` itself where processes do not pay.

    `tray`: bytes of memory to share with a process for the arrays of an answer.
    """
    count = min(workers, count_processors())
    if count < 2 or not is_locked() or not is_python():
        yield Working(work)
        return
    patience = PATIENCE_SECONDS if count >= MANY_WORKERS else LONG_SECONDS
    processes = Processes(opening, count=count, otherwise=work, patience=patience, tray=tray)
    try:
        yield Working(processes.work, lambda: processes.most_entries)
    finally:
        processes.close()


def is_python() -> bool:
    """Whether `sys.executable` runs Python: not in a program that was frozen."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


class WorkerProcess:
    """One worker process. It is ready to work when `wait` has returned true; `failure`: why it is not."""

    def __init__(self, opening: bytes, trays: Trays | None = None) -> None:
        self._trays = trays
        self._process = subprocess.Popen(
            [*name_python(), "-c", _CODE.format(path=list(map(str, sys.path)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # errors and warnings come in answers
            # Ctrl-C on a terminal is the main process's to answer.
            start_new_session=True,
            pass_fds=[] if trays is None else [trays.descriptor],
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
            | getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._requests = cast(BinaryIO, self._process.stdin)
        self._answers = cast(BinaryIO, self._process.stdout)
        self._opening = opening
        self.failure: BaseException | None = None
        self.ready = False
        self._lost: Lease | None = None  # of a request without an answer: until it ends it may write there

    def wait(self) -> bool:
        """Wait until the model is open; return false if that fails, or the process ended before."""
        try:
            send_pickled(self._requests, self._opening)
            answer = receive(self._answers)
        except OSError:  # of the pipe: it ended
            return False
        except Exception as error:  # noqa: BLE001 - also of what is no message: Python's start-up may print
            self.failure = error
            return False
        if isinstance(answer, Answer):
            self.failure = answer.error
        self.ready = isinstance(answer, int)
        return self.ready

    def ask(self, entries: list[Entry], fatal: tuple[int, ...]) -> Answer | None:
        """Have the process work on a chunk; None if the process ended meanwhile.

        After any error the process must not be asked again: its next answer may be to this request.
        """
        lease = None if self._trays is None else self._trays.lend()
        answer: Answer | None = None
        try:
            tray = None if lease is None else lease.number
            send(self._requests, ([tuple(entry) for entry in entries], fatal, tray))
            answer = receive(self._answers, lease)
        except (OSError, ValueError):  # ValueError: the pipes are being closed
            return None
        finally:
            if answer is None:
                self._lost = lease
        return answer

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process now, whatever it does."""
        self._process.kill()

    def say_goodbye(self) -> None:
        """Let the process end. One that is not ready is ended: a thread may wait for its answer."""
        if not self.ready:
            self._process.kill()
            return
        with suppress(OSError):  # it is gone already
            self._requests.close()

    def close(self, *, until: float | None = None) -> None:
        """Wait for the process to end, and end it if it does not. `until`: of the monotonic clock."""
        self.say_goodbye()
        try:
            self._process.wait(_GOODBYE_SECONDS if until is None else max(0.0, until - monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lost = None
        for stream in (self._requests, self._answers):
            with suppress(OSError):
                stream.close()


class Processes(Generic[Result]):
    """`count` worker processes, one for each processor, for as many threads that call `work`, or more.

    They are started when the first chunk of files was `patience` seconds ago, as many as memory allows.
    `ended_by`: errors of a chunk after which its process counts as ended.
    """

    ended_by: tuple[type[BaseException], ...] = ()
    most_entries = 0  # that one call of `work` should be given; 0 for one chunk

    def __init__(
        self, opening: Opening, *, count: int, otherwise: DoWork[Result], patience: float, tray: int = 0
    ) -> None:
        self._trays = _make_trays(count, tray)
        self._opening = pickle.dumps((opening, self._trays))
        self._count, self._otherwise = count, otherwise
        self._lock = threading.Lock()
        self._all: list[WorkerProcess] = []
        self._idle: list[WorkerProcess] = []
        self._begun = self._closed = False
        self._failure: BaseException | None = None  # of the last start
        self._starter = threading.Timer(patience, self._start_all)
        self._starter.daemon = True

    def begin(self) -> None:
        """Have the processes started soon, at the first call."""
        with self._lock:
            first, self._begun = not self._begun and not self._closed, True
        if first:
            with suppress(RuntimeError):  # the system allows no further thread: those that there are score
                self._starter.start()

    def _start_all(self) -> None:
        """Start the processes at once; each is used as soon as it is ready."""
        started = list(filter(None, [self._start() for _ in range(self.count_fitting())]))
        if count := len(started):
            ready = map_in_order(self._make_ready, started, threads=count, ahead=count, name="wetread-start")
            deque(ready, maxlen=0)

    def count_fitting(self) -> int:
        """Return how many more processes fit into memory, `count` at most."""
        free = read_free_memory()
        return (
            self._count if free is None else min(self._count, free // (WORKER_BYTES + 3 * len(self._opening)))
        )

    def _start(self) -> WorkerProcess | None:
        """Start a process; None where that is impossible, and threads go on scoring."""
        if self._closed:
            return None
        try:
            process = WorkerProcess(self._opening, self._trays)
        except (OSError, MemoryError) as error:
            self._failure = error
            return None
        with self._lock:
            if not self._closed:
                self._all.append(process)
                return process
        process.close()
        return None

    def _make_ready(self, process: WorkerProcess) -> None:
        if process.wait():
            self.give_back(process)
        else:
            self.discard(process)

    def start_again(self) -> WorkerProcess:
        """Start a process in place of one that ended. Raises MachineError if that is impossible."""
        reason: BaseException | None = None
        for _ in range(TRIES):  # what ended the last one may end it as it starts
            process = self._start()
            if process is not None and process.wait():
                return process
            if process is not None:
                reason = process.failure
                self.discard(process)
        why = f" ({reason})" if reason else ""
        raise MachineError(
            f"A worker process ended, and none can be started in its place{why}. Perhaps memory is "
            "short: use fewer --workers."
        )

    def take(self) -> WorkerProcess | None:
        """Return a process that is ready, for `give_back` or `discard`; None where there is none."""
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None or process.is_alive:
                return process
            self.discard(process)  # it ended while it was idle: no input is to blame

    def give_back(self, process: WorkerProcess) -> None:
        """Let another thread use a process that has answered."""
        with self._lock:
            self._idle.append(process)

    def discard(self, process: WorkerProcess) -> None:
        """End a process that is not to be used again."""
        with self._lock:
            if process not in self._all:
                return  # it is being closed
            self._all.remove(process)
        process.close()

    def work(self, entries: list[Entry]) -> Result:
        """Work on neighbouring chunks in a process; on this thread while none is ready, and for a bucket's.

        A chunk whose process ends is tried again, and then each of its images alone. Those that end a
        process alone, too, are not read any more. Raises MachineError if that does not help.
        """
        if any(is_bucket_location(entry.name) for entry in entries):
            return self._otherwise(entries)
        self.begin()
        process = self.take()
        if process is None:
            return self._otherwise(entries)
        seat: Seat[Result] = Seat(self, process)
        start = monotonic()
        try:
            return seat.work(entries) or seat.work(entries) or _work_on_survivors(seat, entries)
        finally:
            seat.leave()
            pace = len(entries) / max(monotonic() - start, 1e-9)
            self.most_entries = min(_MOST_ENTRIES, int(pace * _REQUEST_SECONDS))

    def close(self) -> None:
        """End all processes."""
        self._starter.cancel()
        with self._lock:
            self._closed = True
            left, self._all, self._idle = self._all, [], []
        for process in left:
            process.say_goodbye()
        until = monotonic() + _GOODBYE_SECONDS
        for process in left:
            process.close(until=until)
        if self._starter.ident is not None:  # it was started
            self._starter.join()
        if self._trays is not None:
            self._trays.close()
            self._trays = None  # not left to the garbage collector


def _make_trays(count: int, size: int) -> Trays | None:
    """Return memory to share; None where none is wanted, or there: answers then come through pipes."""
    if not size or not can_share():
        return None
    with suppress(OSError, ValueError):
        return Trays(count + _SPARE_TRAYS, size)
    return None


class Seat(Generic[Result]):
    """One thread's process while it works on a chunk; another takes its place when it ends."""

    def __init__(self, processes: Processes[Result], process: WorkerProcess) -> None:
        self._processes = processes
        self._process: WorkerProcess | None = process

    def work(self, entries: list[Entry], fatal: tuple[int, ...] = ()) -> Result | None:
        """Work in the process, or in a new one if the last ended; None if it ends. Raises its errors."""
        if self._process is None:
            self._process = self._processes.start_again()
        answer: Any = None
        try:
            answer = self._process.ask(entries, fatal)
            if answer is not None and isinstance(answer.error, self._processes.ended_by):
                answer = None
        finally:
            if answer is None:
                self._processes.discard(self._process)
                self._process = None
        if answer is None:
            return None
        for category, words in answer.warnings:
            warnings.warn(words, category, stacklevel=2)
        if answer.error is not None:
            raise answer.error
        result: Result = answer.result
        return result

    def leave(self) -> None:
        """Give the process back."""
        if self._process is not None:
            self._processes.give_back(self._process)


def _work_on_survivors(seat: Seat[Result], entries: list[Entry]) -> Result:
    """Work on a chunk without those of its images that end a process each time."""
    alone = [any(seat.work([entry]) for _ in range(TRIES)) for entry in entries]
    result = seat.work(entries, tuple(at for at, survived in enumerate(alone) if not survived))
    if result is None:
        raise MachineError(
            f"Worker processes end while they score {entries[0].name!r} and the inputs after it, of which "
            "none alone ends one. Perhaps memory is short: use fewer --workers."
        )
    return result
