"""What is in the way of a command that runs for months: said when it begins, and when it is over.

faults = Faults(report=print)
faults.say("output", "'scores.csv' cannot be written: No space left on device")
faults.say("output", "")    # over at 2026-11-29T19:51:09Z, 12 s after it began: 'scores.csv' cannot ...
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Fault:
    text: str
    began: str
    started: float
    ended: str | None = None


class Faults:
    """The faults of one command, by topic. Threads may share it. `clock`: seconds, for tests."""

    def __init__(self, report: Report, *, clock: Callable[[], float] = monotonic) -> None:
        self._report, self._clock = report, clock
        self._present: dict[str, _Fault] = {}
        self._last: _Fault | None = None
        self._lock = threading.Lock()

    def say(self, topic: str, text: str) -> None:
        """Note what is in the way of a topic, or '' if nothing is; a change is reported, once."""
        with self._lock:
            line = self._change(topic, text)
        if line:
            self._report(line)

    def _change(self, topic: str, text: str) -> str:
        before = self._present.get(topic)
        if (before.text if before else "") == text:
            return ""
        now = format_now()
        if text:
            # Another reason does not begin it anew: the topic is in trouble since the first.
            began, started = (before.began, before.started) if before else (now, self._clock())
            self._last = self._present[topic] = _Fault(text, began, started)
            return text
        assert before is not None
        del self._present[topic]
        if self._last is before:
            self._last = _Fault(before.text, before.began, before.started, ended=now)
        seconds = self._clock() - before.started
        return f"over at {now}, {seconds:,.0f} s after it began: {before.text}"

    def describe(self) -> dict[str, Any]:
        """Return the last fault and those that are present, for the status file."""
        with self._lock:
            last = self._last
            present = [{"what": fault.text, "began": fault.began} for fault in self._present.values()]
        shown = None if last is None else {"what": last.text, "began": last.began, "ended": last.ended}
        return {"last_error": shown, "errors_now": present}


def format_now() -> str:
    """Return the time in UTC, to the second: 2026-11-29T19:51:09Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
