"""Files that were moved away without a score: one that grows there was a copy that paused, and comes back.

A sender that still has the file open writes to it wherever it is now.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from wetread.runtime.entries import Entry
from wetread.runtime.files.long_paths import reach
from wetread.runtime.files.moving import move_aside

_SECONDS = 86_400.0
_MOST = 1_000  # files that are asked for at each look


@dataclass(frozen=True, slots=True)
class _Moved:
    place: str
    size: int
    modified: int
    since: float


class GivenUp:
    """The last 1,000 files that were moved to `failed`, for a day. `clock`: seconds, for tests."""

    def __init__(self, failed: str, *, root: str, clock: Callable[[], float] = monotonic) -> None:
        self._failed, self._root, self._clock = failed, root, clock
        self._moved: deque[_Moved] = deque(maxlen=_MOST)

    def note(self, place: str, entry: Entry) -> None:
        """Remember where a file went, its size when it was read, and its time after the move.

        The time from before says nothing: a share may give a file that is moved another one.
        """
        with suppress(OSError):  # gone again, or out of reach: nothing to compare with
            modified = os.stat(reach(place)).st_mtime_ns
            self._moved.append(_Moved(place, entry.size or 0, modified, self._clock()))

    def take_back(self) -> None:
        """Move what has changed since back to where it arrived; under a number, if the name is taken.

        Raises OSError if one cannot be moved; it is tried again at the next call.
        """
        now = self._clock()
        for moved in list(self._moved):
            if now - moved.since > _SECONDS:
                self._moved.remove(moved)
                continue
            with suppress(FileNotFoundError):  # its owner took it away
                status = os.stat(reach(moved.place))
                if (status.st_size, status.st_mtime_ns) == (moved.size, moved.modified):
                    continue
                move_aside(moved.place, root=self._failed, target=self._root)
            self._moved.remove(moved)
