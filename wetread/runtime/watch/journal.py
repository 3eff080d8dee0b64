"""An output that grows for months, and a crash-safe journal beside it.

Rows are appended to the output itself. The journal, `scores.csv.watch`, has one JSON line for what the rows
depend on, then one line for each batch: the position of its rows, their checksum, and the keys of its files.
A line is written after its rows are on the disk. Rows without a line are cut off before the next batch: a
kill leaves at most one half-written line, at the end. A journal with any other damage is refused, because its
rows may be of files that have been moved. The output is open only while rows are written: it may be renamed,
or be open in a spreadsheet.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from wetread.errors import OutputError, Status
from wetread.runtime.entries import JOURNAL_SUFFIX, Entry
from wetread.runtime.files.atomic import sync_file
from wetread.runtime.files.line_log import BusyLogError, DamagedLogError, LineLog, explain_writing
from wetread.runtime.files.permissions import make_opener
from wetread.runtime.files.text_table import TextTable
from wetread.runtime.scoring.rows import Prediction, encode_header, encode_rows

_VERSION = 1
_KINDS = {"ok": b"\1", "failed": b"\0"}


@dataclass(frozen=True, slots=True)
class _Piece:
    """The last rows of the output that have a line in the journal."""

    start: int
    length: int
    checksum: int

    @property
    def end(self) -> int:
        return self.start + self.length


def key_entry(entry: Entry, *, root: str = "") -> str:
    """Return 16 hex digits that depend on a file's name below `root`, its size and modification time."""
    return hashlib.blake2b(entry.identify(root), digest_size=8).hexdigest()


class Journal:
    """The only writer of a growing output. Use `open_journal`.

    It knows the key of every file with a row, and whether that has a score. `optional`: the columns after
    `error`. `mode`: the permissions of a new output and a new journal.
    """

    def __init__(
        self,
        path: str,
        *,
        labels: tuple[str, ...],
        kind: str,
        identity: Mapping[str, Any],
        optional: tuple[str, ...] = (),
        mode: int = 0o600,
    ) -> None:
        self.path, self._mode = path, mode
        self._taken = TextTable(1)
        self._labels, self._kind, self._optional = labels, kind, optional
        self._identity = dict(identity)
        self._header = encode_header(labels, kind=kind, optional=optional)
        self._last = _Piece(0, len(self._header), zlib.crc32(self._header))
        self._lines = self._hold()

    def _hold(self) -> LineLog:
        with explain_writing(self.path):
            try:
                return LineLog(self.path + JOURNAL_SUFFIX, mode=self._mode)
            except BusyLogError as error:
                raise OutputError(
                    f"Another watch is writing {self.path!r}. Stop that one, or choose another output."
                ) from error

    def close(self) -> None:
        """Release the output."""
        self._lines.close()

    def recover(self) -> None:
        """Read the journal of earlier runs, and cut off rows that are not in it.

        Raises OutputError if the output is not a watch's, has changed, has rows of another model, or if the
        journal is damaged; then both files are left unchanged.
        """
        with explain_writing(self.path):
            self._read_lines()
            if self._lines.is_empty:
                self._begin()
            with self._open_rows() as rows:
                self._settle(rows)

    def _read_lines(self) -> None:
        try:
            self._lines.read(self._check_line)
        except DamagedLogError as error:
            raise OutputError(
                f"{self.path + JOURNAL_SUFFIX!r}, the journal of {self.path!r}, has a damaged line "
                f"{error.number}. Restore both files from one copy, or choose another output."
            ) from error

    def _check_line(self, line: Mapping[str, Any], is_first: bool) -> None:
        if ("identity" in line) != is_first:
            raise ValueError("only the first line has the identity")
        self._take_in(line)

    def _take_in(self, line: Mapping[str, Any]) -> None:
        if "identity" in line:
            _check_identity(line["identity"], self._identity, output=self.path)
        if "rows" in line:
            self._last = _Piece(*map(int, line["rows"]))
        for name, value in _KINDS.items():
            self._taken.put_many(line.get(name, ()), value)
        for key in line.get("gone", ()):
            self._taken.discard(key)

    def _begin(self) -> None:
        if os.path.exists(self.path) and os.path.getsize(self.path):
            raise OutputError(
                f"{self.path!r} already exists and has no journal of `wetread watch`. Choose another output, "
                "or move it away."
            )
        self._lines.append({"version": _VERSION, "identity": self._identity})

    def __len__(self) -> int:
        """How many files have a row."""
        return len(self._taken)

    def find_score(self, key: str) -> bool | None:
        """Tell whether the row of a file has a score; None of a file without a row."""
        value = self._taken.get(key)
        return None if value is None else value == _KINDS["ok"]

    def append(self, predictions: list[Prediction], keys: list[str]) -> None:
        """Write rows and, once they are on the disk, a line for them with the keys of their files.

        Raises OutputError; then none of it counts, and it may be tried again.
        """
        data = encode_rows(predictions, self._labels, kind=self._kind, optional=self._optional)
        line: dict[str, Any] = {"ok": [], "failed": []}
        for prediction, key in zip(predictions, keys, strict=True):
            line["ok" if prediction.status == Status.OK else "failed"].append(key)
        with explain_writing(self.path):
            with self._open_rows() as rows:
                start = self._settle(rows)
                rows.write(data)
                rows.flush()
                sync_file(rows.fileno())
            line["rows"] = [start, len(data), zlib.crc32(data)]
            self._lines.append(line)
        self._take_in(line)

    def forget(self, keys: list[str]) -> None:
        """Record that files were moved away: a file that comes back with such a key is new."""
        with explain_writing(self.path):
            self._lines.append({"gone": keys})
        self._take_in({"gone": keys})

    def _settle(self, rows: BinaryIO) -> int:
        """Cut off rows that do not count, begin a new file with the header, and return the end."""
        end = self._find_end(rows)
        rows.truncate(end)
        rows.seek(end)
        return end or rows.write(self._header)

    def _open_rows(self) -> BinaryIO:
        # "a" creates the file if there is none, "r+" allows truncation.
        with open(self.path, "ab", opener=make_opener(self._mode)):
            pass
        return open(self.path, "r+b")

    def _find_end(self, rows: BinaryIO) -> int:
        """Return the end of the rows that count. Raises OutputError for a file that has changed."""
        size = rows.seek(0, os.SEEK_END)
        if size >= self._last.end:
            rows.seek(self._last.start)
            if zlib.crc32(rows.read(self._last.length)) == self._last.checksum:
                return self._last.end
        elif size == 0 or self._last.start == 0:
            return 0  # new, or renamed by its owner, or killed while the header was written
        else:
            rows.seek(size - 1)
            if rows.read(1) == b"\n":
                return size  # truncated by its owner, after a whole row
        raise OutputError(
            f"{self.path!r} was changed by something else. Move it away (a new one is begun), or choose "
            "another output."
        )


@contextmanager
def open_journal(journal: Journal) -> Iterator[Journal]:
    """Recover a journal, and release it at the end. Raises OutputError."""
    try:
        journal.recover()
        yield journal
    finally:
        journal.close()


def _check_identity(old: Mapping[str, Any], new: Mapping[str, Any], *, output: str) -> None:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            raise OutputError(
                f"{output!r} was begun with another {name}: {old.get(name)!r}, not {new.get(name)!r}. "
                "Choose another output."
            )
