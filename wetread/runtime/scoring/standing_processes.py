"""Worker processes of a command that runs for months: a file that ends its process ends no more than that.

The first is started with the command, another one whenever a chunk finds all of them busy, up to a number.
Those that have had nothing to do for a while are ended, but for one. What is in the way is said and tried
again: nothing here ends the command.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Generic, Protocol, TypeVar

from wetread.runtime.entries import Entry
from wetread.runtime.scoring.processes import TRIES, DoWork, Processes, Seat, WorkerProcess, is_python
from wetread.runtime.scoring.worker_process import Opening
from wetread.runtime.threads import count_processors

IDLE_SECONDS = 600.0
# After a start that failed: before a thread that has nothing else tries again, and before others do.
_PAUSE_SECONDS, _REST_SECONDS = 2.0, 60.0
_START_SECONDS, _LOOK_SECONDS = 120.0, 0.2
Result = TypeVar("Result")
# Some neighbouring entries, and what became of them.
Part = tuple[list[Entry], Result]


class StoppedError(Exception):
    """The command is to stop, and a chunk has no process."""


class Standing(Protocol[Result]):
    """What works on chunks."""

    def work_on(self, entries: list[Entry]) -> list[Part[Result]]:
        """Work on a chunk, in one part or in several. Raises StoppedError."""
        ...

    def rest(self) -> None:
        """Let go of what was idle for long. To be called now and then."""
        ...


class InThreads(Generic[Result]):
    """Works on chunks in the threads that bring them."""

    def __init__(self, work: DoWork[Result]) -> None:
        self._work = work

    def work_on(self, entries: list[Entry]) -> list[Part[Result]]:
        """Work on a chunk."""
        return [(entries, self._work(entries))]

    def rest(self) -> None:
        """Do nothing."""


@contextmanager
def stand_by(
    work: DoWork[Result],
    opening: Opening,
    *,
    workers: int | None,
    stop: Callable[[], bool],
    report: Callable[[str], None],
    beat: Callable[[], None],
) -> Iterator[Standing[Result]]:
    """Work on chunks in at most so many processes, or by `work` itself where none can be used.

    `workers`: None for the processors. `stop`: whether the command is to stop. `report` is called with what
    is in the way of processes, and with '' when that is over; `beat` now and then while a chunk has to wait.
    """
    if not is_python():
        yield InThreads(work)
        return
    count = min(workers or count_processors(), count_processors())
    processes = StandingProcesses(opening, count=count, otherwise=work, stop=stop, report=report, beat=beat)
    try:
        processes.begin()
        yield processes
    finally:
        processes.close()


class StandingProcesses(Processes[Result]):
    """As `Processes`, but no thread does the work while processes can be started: it waits for one."""

    ended_by = (MemoryError,)  # the process is no better than one that was ended

    def __init__(
        self,
        opening: Opening,
        *,
        count: int,
        otherwise: DoWork[Result],
        stop: Callable[[], bool] = lambda: False,
        report: Callable[[str], None] = lambda _: None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(opening, count=count, otherwise=otherwise, patience=0.0)
        self._stop, self._report, self._beat = stop, report, beat
        self._changed = threading.Condition(self._lock)
        self._since: dict[WorkerProcess, float] = {}  # of the idle ones
        self._starting = False  # one, which is not ready yet
        self._failed = float("-inf")  # when a start did, last

    def work_on(self, entries: list[Entry]) -> list[Part[Result]]:
        """Work on a chunk in a process; on this thread where none can be started.

        A chunk whose process ends is tried again, and then each of its inputs alone. One that ends a process
        alone, too, is not read any more.
        """
        process = self.take()
        if process is None:
            return [(entries, self._otherwise(entries))]
        seat: Seat[Result] = Seat(self, process)
        try:
            for _ in range(TRIES):
                if (result := seat.work(entries)) is not None:
                    return [(entries, result)]
            return [([entry], self._work_alone(seat, entry)) for entry in entries]
        finally:
            seat.leave()

    def _work_alone(self, seat: Seat[Result], entry: Entry) -> Result:
        """Work on an input, and leave it unread if it ends its process each time."""
        for _ in range(TRIES):
            if (result := seat.work([entry])) is not None:
                return result
        while (unread := seat.work([entry], (0,))) is None:
            self._note_failure("each ends, whatever it is asked")  # nothing was read
        return unread

    def _start_all(self) -> None:
        """Start the first process."""
        with self._changed:
            if self._starting or self._all:
                return
            self._starting = True
        if (process := self._start_another()) is not None:
            self.give_back(process)

    def take(self) -> WorkerProcess | None:
        """Return a process that is ready; start one, or wait for one, where all are busy.

        None where there is none and none can be started, or all are being closed.
        """
        return self._take(_REST_SECONDS)

    def _take(self, pause: float) -> WorkerProcess | None:
        """As `take`. `pause`: seconds after a start that failed in which it is not tried again."""
        while True:
            with self._changed:
                self._drop_dead()
                if self._closed:
                    return None
                if self._idle:
                    process = self._idle.pop()
                    self._since.pop(process, None)
                    return process
                if self._starting or not self._may_grow():
                    self._changed.wait(_PAUSE_SECONDS)
                    continue
                if monotonic() < self._failed + pause:
                    if not self._all:
                        return None
                    self._changed.wait(_PAUSE_SECONDS)  # for those that are at work
                    continue
                self._starting = True
            if (started := self._start_another()) is not None:
                return started

    def _may_grow(self) -> bool:
        return not self._all or (len(self._all) < self._count and self.count_fitting() > 0)

    def _drop_dead(self) -> None:
        """Forget the idle processes that ended, which no input is to blame for."""
        for process in [each for each in self._idle if not each.is_alive]:
            self._idle.remove(process)
            self._all.remove(process)
            self._since.pop(process, None)
            process.close()

    def _start_another(self) -> WorkerProcess | None:
        """Start a process, and wait until it is ready; None if that is impossible."""
        ready = self._failure = None
        try:
            process = self._start()
            if process is not None and self._is_ready_in_time(process):
                ready = process
            elif process is not None:
                self._failure = process.failure
                self.discard(process)
            return ready
        finally:
            with self._changed:
                self._starting = False
                self._changed.notify_all()
            if ready is None:
                self._note_failure(str(self._failure) if self._failure else "it ends as it starts")

    def _is_ready_in_time(self, process: WorkerProcess) -> bool:
        """Wait until a process is ready; end it where that takes too long, or the command is to stop."""
        over, end = threading.Event(), monotonic() + _START_SECONDS

        def watch() -> None:
            while not over.wait(_LOOK_SECONDS):
                if self._closed or self._stop() or monotonic() > end:
                    return process.kill()

        watching = threading.Thread(target=watch, name="wetread-start", daemon=True)
        try:
            watching.start()
        except RuntimeError as error:  # the system allows no further thread
            process.failure = error
            return False
        try:
            return process.wait()
        finally:
            over.set()
            watching.join()

    def _note_failure(self, reason: str) -> None:
        """Let starts rest for a while, and say so where no process is left that does the work."""
        with self._changed:
            self._failed, is_alone = monotonic(), not self._all
        if is_alone and not self._closed and not self._stop():
            self._report(f"no worker process can be used: {reason}; it is tried again")

    def start_again(self) -> WorkerProcess:
        """Return a process in place of one that ended, as soon as one can be started. Raises StoppedError."""
        while True:
            if self._closed or self._stop():
                raise StoppedError
            self._beat()
            if (process := self._take(_PAUSE_SECONDS)) is not None:
                return process
            with self._changed:
                self._changed.wait(_PAUSE_SECONDS)

    def give_back(self, process: WorkerProcess) -> None:
        """Let another thread use a process that has answered."""
        self._report("")
        with self._changed:
            self._failed = float("-inf")
            self._idle.append(process)
            self._since[process] = monotonic()
            self._changed.notify()

    def discard(self, process: WorkerProcess) -> None:
        """End a process that is not to be used again."""
        super().discard(process)
        with self._changed:
            self._changed.notify()

    def rest(self) -> None:
        """End the processes that were idle for `IDLE_SECONDS`, but for one."""
        before = monotonic() - IDLE_SECONDS
        with self._changed:
            self._drop_dead()
            tired = [each for each in self._idle if self._since[each] < before][: len(self._all) - 1]
            for process in tired:
                self._idle.remove(process)
                del self._since[process]
        for process in tired:
            self.discard(process)

    def close(self) -> None:
        """End all processes."""
        super().close()
        with self._changed:
            self._changed.notify_all()
