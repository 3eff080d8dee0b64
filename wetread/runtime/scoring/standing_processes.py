"""Worker processes of a command that runs for months: a file that ends its process ends no more than that.

The first is started with the command, another one whenever a chunk finds all of them busy, up to a number.
Those that have had nothing to do for a while are ended, but for one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from wetread.errors import MachineError
from wetread.runtime.scoring.processes import DoWork, Processes, WorkerProcess, is_python
from wetread.runtime.scoring.worker_process import Opening
from wetread.runtime.threads import count_processors

IDLE_SECONDS = 600.0
_RETRY_SECONDS = 5.0
Result = TypeVar("Result")


@dataclass(frozen=True)
class Standing(Generic[Result]):
    """What works on a chunk, and the processes that do it; None where threads do."""

    work: DoWork[Result]
    processes: StandingProcesses[Result] | None = None

    def rest(self) -> None:
        """End the processes that were idle for long. To be called now and then."""
        if self.processes is not None:
            self.processes.rest()


@contextmanager
def stand_by(work: DoWork[Result], opening: Opening, *, workers: int | None) -> Iterator[Standing[Result]]:
    """Work on chunks in at most so many processes, or by `work` itself where none can be used.

    `workers`: None for the processors.
    """
    if not is_python():
        yield Standing(work)
        return
    count = count_processors()
    processes = StandingProcesses(opening, count=min(workers or count, count), otherwise=work)
    processes.begin()
    try:
        yield Standing(processes.work, processes)
    finally:
        processes.close()


class StandingProcesses(Processes[Result]):
    """As `Processes`, but no thread does the work while processes can be started: it waits for one."""

    def __init__(self, opening: Opening, *, count: int, otherwise: DoWork[Result]) -> None:
        super().__init__(opening, count=count, otherwise=otherwise, patience=0.0)
        self._changed = threading.Condition(self._lock)
        self._since: dict[WorkerProcess, float] = {}  # of the idle ones
        self._starting = False  # one, which is not ready yet

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

        None where none can be started, or all are being closed.
        """
        while True:
            with self._changed:
                if self._closed:
                    return None
                if self._idle:
                    process = self._idle.pop()
                    self._since.pop(process, None)
                    return process
                if self._starting or not self._may_grow():
                    self._changed.wait()
                    continue
                self._starting = True
            if (started := self._start_another()) is not None:
                return started
            with self._changed:
                if not self._all:
                    return None
                self._changed.wait(_RETRY_SECONDS)  # for those that are at work: memory may be short

    def _may_grow(self) -> bool:
        return not self._all or (len(self._all) < self._count and self.count_fitting() > 0)

    def _start_another(self) -> WorkerProcess | None:
        """Start a process, and wait until it is ready; None if that is impossible."""
        try:
            process = self._start()
            if process is None or process.wait():
                return process
            self.discard(process)
            return None
        finally:
            with self._changed:
                self._starting = False
                self._changed.notify_all()

    def start_again(self) -> WorkerProcess:
        """Return a process in place of one that ended. Raises MachineError if none can be started."""
        process = self.take()
        if process is None:
            raise MachineError(
                "A worker process ended, and none can be started in its place. Perhaps memory is short: use "
                "fewer --workers."
            )
        return process

    def give_back(self, process: WorkerProcess) -> None:
        """Let another thread use a process that has answered."""
        with self._changed:
            self._idle.append(process)
            self._since[process] = monotonic()
            self._changed.notify()

    def discard(self, process: WorkerProcess) -> None:
        """End a process that is not to be used again."""
        super().discard(process)
        with self._changed:
            self._since.pop(process, None)
            self._changed.notify()

    def rest(self) -> None:
        """End the processes that were idle for `IDLE_SECONDS`, but for one."""
        before = monotonic() - IDLE_SECONDS
        with self._changed:
            tired = [each for each in self._idle if self._since.get(each, before) < before]
            tired = tired[: len(self._all) - 1]
            self._idle = [each for each in self._idle if each not in tired]
        for process in tired:
            self.discard(process)

    def close(self) -> None:
        """End all processes."""
        super().close()
        with self._changed:
            self._changed.notify_all()
