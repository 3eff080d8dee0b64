"""The heartbeat of a command that runs for months: a JSON file that is replaced every ten seconds.

It holds counts, times, versions and what is in the way; no name of a file, which may be a patient's.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from wetread.packages import RESULT_PACKAGES, find_versions
from wetread.runtime.files.atomic import write_file
from wetread.runtime.watch.faults import Faults, format_now
from wetread.runtime.watch.systemd_notify import Supervisor

EVERY = 10.0  # seconds between two writes while nothing changes
_FORMAT = 1

State = Callable[[], Mapping[str, Any]]


class Heartbeat:
    """Writes a status file. `about`: what stays the same; `find_state`: what changes, asked at each write.

    Without a path nothing is written. A file that cannot be written is a fault like others, and tried again.
    The service manager, if there is one, hears of each beat as well.
    """

    def __init__(
        self,
        path: str | None,
        *,
        about: Mapping[str, Any],
        find_state: State,
        faults: Faults,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._path, self._find_state, self._faults, self._clock = path, find_state, faults, clock
        self._about = {
            "format": _FORMAT,
            **about,
            "versions": find_versions(RESULT_PACKAGES),
            "process": os.getpid(),
            "started": format_now(),
            "written_every_seconds": EVERY,
        }
        self._supervisor = Supervisor(clock=clock)
        self._next = clock()
        self._errors: dict[str, Any] = {}
        self._lock = threading.Lock()

    def beat(self) -> None:
        """Write the file if it is time, or if a fault began or ended. Call it often, from any thread."""
        with self._lock:
            self._supervisor.say_alive()
            if self._path is not None:
                errors = self._faults.describe()
                if self._clock() >= self._next or errors != self._errors:
                    self._write("running")

    def start(self) -> None:
        """Say that the command is at work."""
        self.beat()
        self._supervisor.say_ready()

    def close(self) -> None:
        """Write that the command has stopped."""
        self._supervisor.say_stopping()
        if self._path is not None:
            self._write("stopped")

    def _write(self, state: str) -> None:
        assert self._path is not None
        self._next = self._clock() + EVERY
        self._errors = self._faults.describe()
        values = {
            **self._about,
            "written": format_now(),
            "state": state,
            **self._find_state(),
            **self._errors,
        }
        try:
            write_file(self._path, json.dumps(values, indent=1).encode() + b"\n")
        except OSError as error:
            reason = error.strerror or str(error)
            self._faults.say("status", f"the status file {self._path!r} cannot be written: {reason}")
        else:
            self._faults.say("status", "")
