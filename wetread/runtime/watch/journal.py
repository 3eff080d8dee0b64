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
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from wetread.errors import OutputError, Status
from wetread.runtime.entries import JOURNAL_SUFFIX, Entry
from wetread.runtime.files.atomic import sync_file
from wetread.runtime.files.locks import lock_file
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
        self._lines: BinaryIO
        self._whole = 0  # where the journal's whole lines end
        self._hold()

    def _hold(self) -> None:
        with _explained(self.path):
            self._lines = open(self.path + JOURNAL_SUFFIX, "a+b", buffering=0)  # noqa: SIM115
        if not lock_file(self._lines):
            self._lines.close()
            raise OutputError(
                f"Expected to be the only watch that writes {self.path!r}. Received another one at work. "
                "Stop that one, or choose another output."
            )

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
            if not self._whole:
                self._begin()
            with self._open_rows() as rows:
                self._settle(rows)

    def _read_lines(self) -> None:
        """Take in the journal's lines, but for one at the end that a kill left half written."""
        self._lines.seek(0)
        data: bytes = self._lines.readall()  # type: ignore[attr-defined]
        for number, line in enumerate(io.BytesIO(data), 1):
            if not self._read_line(line, is_first=number == 1):
                # A power cut may also leave a line whose bytes never reached the disk: zeros.
                if self._whole + len(line) == len(data) and (not line.endswith(b"\n") or b"\0" in line):
                    return
                raise OutputError(
                    f"Expected whole lines in {self.path + JOURNAL_SUFFIX!r}, which vouches for the rows of "
                    f"{self.path!r}. Received a damaged line {number}. Restore both files from one copy, or "
                    "choose another output."
                )
            self._whole += len(line)

    def _read_line(self, line: bytes, *, is_first: bool) -> bool:
        """Take in one line; False when it is none that was written here."""
        try:
            found = json.loads(line) if line.endswith(b"\n") else None
            if not isinstance(found, dict) or ("identity" in found) != is_first:
                return False
            self._take_in(found)
        except (ValueError, TypeError, AttributeError):
            return False
        return True

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
        self._write_line({"version": _VERSION, "identity": self._identity})

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
            self._write_line(line)
        self._take_in(line)

    def forget(self, keys: list[str]) -> None:
        """Note that files were moved away: one that comes back under such a key is new."""
        with _explained(self.path):
            self._write_line({"gone": keys})
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

    def _write_line(self, line: Mapping[str, Any]) -> None:
        """Write a line and see it on the disk; one that does not fit is taken back, now or by the next."""
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        data = memoryview(text)
        self._lines.truncate(self._whole)
        try:
            while data:
                data = data[self._lines.write(data) :]
            sync_file(self._lines.fileno())
        except OSError:
            with suppress(OSError):
                self._lines.truncate(self._whole)
            raise
        self._whole += len(text)


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
