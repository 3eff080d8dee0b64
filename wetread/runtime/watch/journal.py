"""An output that grows for months, and a journal beside it that survives every way to die.

Rows are appended to the output itself. The journal, `scores.csv.watch`, holds one JSON line for what the
rows depend on, then one for each batch: where its rows stand, their checksum, and the keys of its files;
it is written after the rows are on the disk. Rows that no line vouches for are cut off before the next
batch: a kill leaves at most one line half written, at the end. A journal that is damaged in any other way
is refused, for what it no longer vouches for may be rows of files that are moved away. The output is open
only while rows are written: it may be renamed, or be open in a spreadsheet.
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
from wetread.runtime.files.line_log import BusyLogError, DamagedLogError, LineLog
from wetread.runtime.scoring.rows import Prediction, encode_header, encode_rows

_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Piece:
    """The last bytes of the output that the journal vouches for."""

    start: int
    length: int
    checksum: int

    @property
    def end(self) -> int:
        return self.start + self.length


def key_entry(entry: Entry, *, root: str = "") -> str:
    """16 hex digits that change with a file's name below `root`, its size or modification time."""
    return hashlib.blake2b(entry.identify(root), digest_size=8).hexdigest()


class Journal:
    """The one writer of a growing output. Use `open_journal`.

    `taken` maps the key of every file that has a row to whether it has a score. `optional` names the columns
    after `error`.
    """

    def __init__(
        self,
        path: str,
        *,
        labels: tuple[str, ...],
        kind: str,
        identity: Mapping[str, Any],
        optional: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.taken: dict[str, bool] = {}
        self._labels, self._kind, self._optional = labels, kind, optional
        self._identity = dict(identity)
        self._header = encode_header(labels, kind=kind, optional=optional)
        self._last = _Piece(0, len(self._header), zlib.crc32(self._header))
        self._lines = self._hold()

    def _hold(self) -> LineLog:
        with _explained(self.path):
            try:
                return LineLog(self.path + JOURNAL_SUFFIX)
            except BusyLogError as error:
                raise OutputError(
                    f"Expected to be the only watch that writes {self.path!r}. Received another one at work. "
                    "Stop that one, or choose another output."
                ) from error

    def close(self) -> None:
        """Let go of the output."""
        self._lines.close()

    def recover(self) -> None:
        """Read what earlier runs vouched for, and cut off what they did not.

        Raises OutputError when the output is another's, has changed, has rows of another model, or when the
        journal is damaged; then both stay as they are.
        """
        with _explained(self.path):
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
                f"Expected whole lines in {self.path + JOURNAL_SUFFIX!r}, which vouches for the rows of "
                f"{self.path!r}. Received a damaged line {error.number}. Restore both files from one copy, "
                "or choose another output."
            ) from error

    def _check_line(self, line: Mapping[str, Any], is_first: bool) -> None:
        if ("identity" in line) != is_first:
            raise ValueError("the identity stands in the first line alone")
        self._take_in(line)

    def _take_in(self, line: Mapping[str, Any]) -> None:
        if "identity" in line:
            _check_identity(line["identity"], self._identity, output=self.path)
        if "rows" in line:
            self._last = _Piece(*map(int, line["rows"]))
        self.taken |= dict.fromkeys(line.get("ok", ()), True) | dict.fromkeys(line.get("failed", ()), False)
        for key in line.get("gone", ()):
            self.taken.pop(key, None)

    def _begin(self) -> None:
        if os.path.exists(self.path) and os.path.getsize(self.path):
            raise OutputError(
                f"Expected no output at {self.path!r} yet, or one that `wetread watch` began. Received a "
                "file without its journal. Choose another output, or move it away."
            )
        self._lines.append({"version": _VERSION, "identity": self._identity})

    def append(self, predictions: list[Prediction], keys: list[str]) -> None:
        """Write rows, and vouch for them and for their files' keys once they are on the disk.

        Raises OutputError; then nothing of it counts, and it may be tried again.
        """
        data = encode_rows(predictions, self._labels, kind=self._kind, optional=self._optional)
        line: dict[str, Any] = {"ok": [], "failed": []}
        for prediction, key in zip(predictions, keys, strict=True):
            line["ok" if prediction.status == Status.OK else "failed"].append(key)
        with _explained(self.path):
            with self._open_rows() as rows:
                start = self._settle(rows)
                rows.write(data)
                rows.flush()
                sync_file(rows.fileno())
            line["rows"] = [start, len(data), zlib.crc32(data)]
            self._lines.append(line)
        self._take_in(line)

    def forget(self, keys: list[str]) -> None:
        """Note that files were moved away: one that comes back under such a key is new."""
        with _explained(self.path):
            self._lines.append({"gone": keys})
        self._take_in({"gone": keys})

    def _settle(self, rows: BinaryIO) -> int:
        """Cut off what does not count, begin a new file with the header, and return where rows go on."""
        end = self._find_end(rows)
        rows.truncate(end)
        rows.seek(end)
        return end or rows.write(self._header)

    def _open_rows(self) -> BinaryIO:
        # "a" makes the file where there is none, "r+" lets it be cut.
        with open(self.path, "ab"):
            pass
        return open(self.path, "r+b")

    def _find_end(self, rows: BinaryIO) -> int:
        """Where the rows end that count. Raises OutputError for a file that is not what we left."""
        size = rows.seek(0, os.SEEK_END)
        if size >= self._last.end:
            rows.seek(self._last.start)
            if zlib.crc32(rows.read(self._last.length)) == self._last.checksum:
                return self._last.end
        elif size == 0 or self._last.start == 0:
            return 0  # new, renamed away and begun again, or killed while the header was written
        else:
            rows.seek(size - 1)
            if rows.read(1) == b"\n":
                return size  # shortened by its owner, to whole rows
        raise OutputError(
            f"Expected {self.path!r} as it was left. Received a file that something else wrote to. Move it "
            "away (a new one is begun), or choose another output."
        )


@contextmanager
def open_journal(journal: Journal) -> Iterator[Journal]:
    """Recover a journal, and let go of it at the end. Raises OutputError."""
    try:
        journal.recover()
        yield journal
    finally:
        journal.close()


def _check_identity(old: Mapping[str, Any], new: Mapping[str, Any], *, output: str) -> None:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            raise OutputError(
                f"Expected to go on with {output!r} with the same {name}: {old.get(name)!r}. "
                f"Received {new.get(name)!r}. Choose another output."
            )


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Expected to write {path!r}. Received: {error.strerror or error}. Close the program that holds "
            "it, free the disk or restore the folder."
        ) from error
