"""List a watched folder again and again, at little cost where nothing changes.

A folder whose own times have not changed for a while, and whose files all have their rows, is *calm*: its
files are not listed. A file that is written again under its old name does not change its folder's times, so
all folders are listed in full from time to time, as often as 1% of a processor allows: each time for a small
folder, every 15 seconds or so for 20,000 files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, thread_time

from wetread.errors import SourceError
from wetread.runtime.entries import Entry
from wetread.runtime.files.long_paths import reach
from wetread.runtime.sources.local import Folders, explain_listing, list_folder

# Times of folders are exact to 2 seconds (FAT) or better: within them a change may leave the times as they
# are.
_QUIET = 5.0
_SHARE = 0.01  # of one processor's time, for listing in full


@dataclass(slots=True)
class _Known:
    """A folder as it was listed: its times, since when they are so, its folders, and whether it is calm."""

    times: tuple[int, int, int]
    since: float
    folders: Folders = ()
    is_empty: bool = False
    is_calm: bool = False


@dataclass
class Listing:
    """The files below `root` ('/' at its end), without the folders in `pruned`.

    `clock`: seconds, for tests. `beat` is called now and then, since a look at a slow share takes minutes.
    `trouble`: why a folder below the root could not be listed at the last look, '' if all could.
    """

    root: str
    pruned: Container[str] = ()
    clock: Callable[[], float] = monotonic
    beat: Callable[[], None] = lambda: None
    trouble: str = ""
    cost: float = 0.0  # processor seconds of the last look
    _known: dict[str, _Known] = field(default_factory=dict)
    _next_full: float = 0.0
    _listed: list[str] = field(default_factory=list)

    def look(self) -> list[Entry]:
        """Return the files of all folders that are not calm.

        A folder below the root that is gone meanwhile, or that cannot be listed, holds no other. Raises
        SourceError for the root.
        """
        started, now = thread_time(), self.clock()
        is_full = now >= self._next_full
        self._listed, known, self.trouble = [], self._known, ""
        self._known = {}
        try:
            found = list(self._list(self.root, (), known, is_full=is_full, now=now))
        except SourceError:
            self._known, self._next_full = {}, 0.0
            raise
        self.cost = thread_time() - started
        if is_full:
            self._next_full = now + self.cost / _SHARE
        return found

    def _list(
        self,
        folder: str,
        above: tuple[tuple[int, int], ...],
        known: dict[str, _Known],
        *,
        is_full: bool,
        now: float,
    ) -> Iterator[Entry]:
        try:
            here = os.stat(reach(folder))
        except OSError as error:
            raise explain_listing(folder, error) from error
        key, times = (here.st_dev, here.st_ino), (here.st_ino, here.st_mtime_ns, here.st_ctime_ns)
        if key in above and here.st_ino:
            return
        was = self._known[folder] = self._find_known(folder, times, known, now)
        if is_full or not was.is_calm:
            files, was.folders = list_folder(folder, self.pruned, self.beat)
            self._listed.append(folder)
            was.is_empty = not files and not was.folders
            yield from files
        for below in was.folders:
            self.beat()
            try:
                yield from self._list(below, (*above, key), known, is_full=is_full, now=now)
            except SourceError as error:
                # What is below `below` was dealt with there: this is its own error.
                self._known.pop(below, None)
                if not isinstance(error.__cause__, FileNotFoundError):
                    self.trouble = self.trouble or str(error)

    @staticmethod
    def _find_known(folder: str, times: tuple[int, int, int], known: dict[str, _Known], now: float) -> _Known:
        was = known.get(folder)
        if was is None or was.times != times:
            return _Known(times, now)
        return was

    def settle(self, waiting: Iterable[Entry]) -> None:
        """Note, after a look, which files must be looked at again: their folders are not calm."""
        now, start = self.clock(), len(self.root)
        busy = {self.root + entry.name[start : entry.name.rfind("/", start) + 1] for entry in waiting}
        for folder in self._listed:
            known = self._known[folder]
            known.is_calm = folder not in busy and now - known.since >= _QUIET

    def prune(self, *, after: float) -> None:
        """Remove folders below the root that have been empty and unchanged for `after` seconds.

        A folder with anything in it, were it a hidden file, stays.
        """
        now = self.clock()
        for folder, known in list(self._known.items()):
            if known.is_empty and folder != self.root and now - known.since >= after:
                known.is_empty = False  # one try: until something changes it would fail again
                with suppress(OSError):
                    os.rmdir(reach(folder.rstrip("/")))
