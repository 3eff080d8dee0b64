"""Find the files of a watched folder that are completely written, oldest first.

A file is complete once its size, modification time and (if the system has one) change time have not changed
for a while: a copy in progress changes at least one of them. A name that ends like a copy in progress is
ignored until it is renamed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from wetread.runtime.entries import Entry
from wetread.runtime.files.long_paths import reach

UNFINISHED_SUFFIXES = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", "~")

Signature = tuple[int, int, int]


def sign_file(name: str) -> Signature | None:
    """Return size, modification time and change time (in ns) of a file; None if it is gone.

    On Windows the third is the creation time, which does not change.
    """
    try:
        status = os.stat(reach(name))
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_unfinished(name: str) -> bool:
    """Whether a name shows that the file is still being written."""
    return name.lower().endswith(UNFINISHED_SUFFIXES)


def _make_entry(name: str, signature: Signature) -> Entry:
    size, modified, _ = signature
    return Entry.of_file(name, size=size, modified=modified)


@dataclass
class _Candidate:
    """A file that was seen: its signature, since when it has had that one, and whether it had no score.

    `first`: when the file was seen first.
    """

    signature: Signature
    since: float
    first: float
    is_doubted: bool = False


@dataclass
class Arrivals:
    """The files of a folder that have no row yet.

    `settle`: seconds for which a file must not change. `patience`: the same for a file without a score, which
    may be a copy that paused.
    """

    settle: float
    patience: float
    sign: Callable[[str], Signature | None] = sign_file
    _candidates: dict[str, _Candidate] = field(default_factory=dict)

    def observe(self, entries: Iterable[Entry], *, now: float) -> list[Entry]:
        """Look at a listing, `now` in seconds, and return the complete files, oldest first."""
        found: dict[str, _Candidate] = {}
        ready: list[tuple[int, str, Entry]] = []
        for entry in entries:
            if is_unfinished(entry.name) or (signature := self.sign(entry.name)) is None:
                continue
            known = self._candidates.get(entry.name)
            if known is None or known.signature != signature:
                known = _Candidate(signature, now, known.first if known else now)
            found[entry.name] = known
            if now - known.since >= (self.patience if known.is_doubted else self.settle):
                ready.append((max(signature[1:]), entry.name, _make_entry(entry.name, signature)))
        self._candidates = found
        return [entry for _, _, entry in sorted(ready, key=lambda item: item[:2])]

    def finish(self, entry: Entry) -> None:
        """Forget a file that has its row."""
        self._candidates.pop(entry.name, None)

    @property
    def names(self) -> Iterable[str]:
        """The files that wait for their rows."""
        return self._candidates.keys()

    def describe(self, *, now: float) -> tuple[int, float]:
        """Return how many files wait, and for how many seconds the oldest has been here."""
        waiting = list(self._candidates.values())
        return len(waiting), max((now - each.first for each in waiting), default=0.0)

    def find(self, name: str) -> Entry | None:
        """Return the entry of a file as it is now; None if it is gone."""
        signature = self.sign(name)
        return None if signature is None else _make_entry(name, signature)

    def is_unchanged(self, entry: Entry) -> bool:
        """Whether a file is unchanged since it was returned."""
        known = self._candidates.get(entry.name)
        return known is not None and self.sign(entry.name) == known.signature

    def doubt(self, entry: Entry) -> bool:
        """Keep a file without a score for another try until `patience` is over; False if it is over."""
        known = self._candidates[entry.name]
        if known.is_doubted:
            return False
        known.is_doubted = True
        return True
