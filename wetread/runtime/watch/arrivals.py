"""Which files of a watched folder are there completely, and in which order they came.

A file counts once its size, modification time and (where the system keeps one) change time have stood
still for a while: a copy under way moves at least one of them. A name that ends like a copy under way is
left alone until it is renamed.
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
    """Size, modification time and change time (in ns) of a file; None when it is gone.

    On Windows the third is the creation time, which does not move.
    """
    try:
        status = os.stat(reach(name))
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_unfinished(name: str) -> bool:
    """Tell whether a name says of itself that it is still being written."""
    return name.lower().endswith(UNFINISHED_SUFFIXES)


def _make_entry(name: str, signature: Signature) -> Entry:
    size, modified, _ = signature
    return Entry.of_file(name, size=size, modified=modified)


@dataclass
class _Candidate:
    """A file that was seen: its signature, since when it has had it, and whether it had no score."""

    signature: Signature
    since: float
    is_doubted: bool = False


@dataclass
class Arrivals:
    """The files of a folder that have no row yet.

    `settle`: seconds for which a file must stand still. `patience`: seconds for one that had no score, as
    it may be a copy that paused.
    """

    settle: float
    patience: float
    sign: Callable[[str], Signature | None] = sign_file
    _candidates: dict[str, _Candidate] = field(default_factory=dict)

    def observe(self, entries: Iterable[Entry], *, now: float) -> list[Entry]:
        """Look at what a listing holds, `now` in seconds, and return what is complete, oldest first."""
        found: dict[str, _Candidate] = {}
        ready: list[tuple[int, str, Entry]] = []
        for entry in entries:
            if is_unfinished(entry.name) or (signature := self.sign(entry.name)) is None:
                continue
            known = self._candidates.get(entry.name)
            if known is None or known.signature != signature:
                known = _Candidate(signature, now)
            found[entry.name] = known
            if now - known.since >= (self.patience if known.is_doubted else self.settle):
                ready.append((max(signature[1:]), entry.name, _make_entry(entry.name, signature)))
        self._candidates = found
        return [entry for _, _, entry in sorted(ready, key=lambda item: item[:2])]

    def find(self, name: str) -> Entry | None:
        """The entry of a file as it is now; None when it is gone."""
        signature = self.sign(name)
        return None if signature is None else _make_entry(name, signature)

    def is_unchanged(self, entry: Entry) -> bool:
        """Tell whether a file is still as it was when it was returned."""
        known = self._candidates.get(entry.name)
        return known is not None and self.sign(entry.name) == known.signature

    def doubt(self, entry: Entry) -> bool:
        """Put a file without a score aside until `patience` is over; False when it is over already."""
        known = self._candidates[entry.name]
        if known.is_doubted:
            return False
        known.is_doubted = True
        return True
