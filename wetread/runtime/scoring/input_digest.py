"""Detect inputs that changed between two runs: a short digest for each input, and one of all of them."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wetread.errors import OutputError
from wetread.runtime.entries import Entry

_MARK = 8
# A digest keeps between half this many and this many milestones, whatever the number of inputs.
_MILESTONES = 512


def mark_entry(entry: Entry) -> str:
    """Return eight hex digits that depend on an input's name, size and version."""
    return mark_entries((entry,))


def mark_entries(entries: Iterable[Entry]) -> str:
    """Join the marks of inputs, eight hex digits each."""
    marks = [zlib.crc32(entry.identify()) for entry in entries]
    return ("%08x" * len(marks)) % tuple(marks)


class InputDigest:
    """A digest of the inputs' marks in order, with milestones: intermediate digests at intervals.

    The milestones show where a listing changed, and it need not be read to its end.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._count, self._every = 0, 1
        self._milestones: list[str] = []

    def add(self, marks: str) -> None:
        """Add the marks of the next inputs, eight characters each."""
        at = 0
        while at < len(marks):
            piece = marks[at : at + _MARK * (self._every - self._count % self._every)]
            self._digest.update(piece.encode())
            self._count += len(piece) // _MARK
            at += len(piece)
            if self._count % self._every == 0:
                self._note()

    def _note(self) -> None:
        self._milestones.append(self._digest.hexdigest()[:_MARK])
        if len(self._milestones) == _MILESTONES:
            self._milestones, self._every = self._milestones[1::2], 2 * self._every

    def describe(self) -> dict[str, Any]:
        """Return what a finished output's record keeps, for `check_inputs`."""
        return {
            "count": self._count,
            "sha256": self._digest.hexdigest(),
            "every": self._every,
            "milestones": "".join(self._milestones),
        }


def check_inputs(entries: Iterator[Entry], kept: Mapping[str, Any], *, output: str) -> None:
    """Compare a listing with the inputs in a finished output's record; no file is read.

    Raises OutputError if the listing has changed; it names the input, or the range that the input is in.
    """
    digest, count, when = hashlib.sha256(), 0, f"{output!r} was written"
    for entry in entries:
        if count == kept["count"]:
            raise _changed(entry, f"The listing's end after input {count:,}", when)
        digest.update(mark_entry(entry).encode())
        count += 1
        due = _find_due(kept, count)
        if due and not digest.hexdigest().startswith(due):
            raise _changed(entry, _span(kept, count), when)
    if count < kept["count"]:
        raise _changed(None, _span(kept, count + 1), when)


def _find_due(kept: Mapping[str, Any], count: int) -> str:
    """Return the beginning of the digest after this many inputs; empty if it was not kept."""
    if count == kept["count"]:
        return str(kept["sha256"])
    number, rest = divmod(count, kept["every"])
    return "" if rest else str(kept["milestones"][(number - 1) * _MARK : number * _MARK])


def _span(kept: Mapping[str, Any], count: int) -> str:
    """Name the inputs up to this one that have not been compared yet."""
    first = (count - 1) // kept["every"] * kept["every"] + 1
    return f"Input {count:,}" if first == count else f"Inputs {first:,} to {count:,}"


def skip_written(entries: Iterator[Entry], marks: list[str], *, output: str) -> Iterator[Entry]:
    """Skip the inputs whose rows are written, and compare each with its mark; then clear the marks.

    `marks`: one text for each chunk, eight characters an input. Raises OutputError, which names the input
    that is gone, new, or changed in size or modification time.
    """
    each = (chunk[at : at + _MARK] for chunk in marks for at in range(0, len(chunk), _MARK))
    for row, mark in enumerate(each):
        entry = next(entries, None)
        if entry is None or mark_entry(entry) != mark:
            raise _changed(entry, f"Input {row + 1:,}", f"{output!r} was begun")
    marks.clear()
    yield from entries


def _changed(entry: Entry | None, which: str, when: str) -> OutputError:
    found = f"{entry.name!r} (size {entry.size})" if entry else "the end of the listing"
    if which.startswith("Inputs"):
        found = f"one of them differs in name, size or time, up to {found}"
    else:
        found = f"now {found}"
    return OutputError(
        f"{which} changed since {when}: {found}. A file was added, removed, renamed or changed. "
        "Use --overwrite to start again, or another output."
    )
