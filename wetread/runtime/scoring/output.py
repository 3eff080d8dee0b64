"""An output file that appears under its name when it is complete, and can be resumed until then.

During a run, rows are appended to `scores.csv.part`. `scores.csv.part.state` beside it has what resuming
needs: one JSON line for the run's identity, then one for each chunk of rows, written after the rows
themselves. Rows without such a line (a half-written chunk, after a kill or a power failure) are cut off when
the run resumes.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from wetread.errors import OutputError
from wetread.runtime.entries import JOURNAL_SUFFIX, PART_SUFFIX, RECORD_SUFFIX
from wetread.runtime.files.atomic import hide, publish, remove_aside, sync_file
from wetread.runtime.files.locks import is_named, lock_file
from wetread.runtime.scoring.checkpoint import encode_line, read_lines
from wetread.runtime.scoring.input_digest import InputDigest
from wetread.runtime.scoring.row_encoding import Rows
from wetread.runtime.scoring.rows import convert_to_parquet, encode_header

STATE_SUFFIX = PART_SUFFIX + ".state"
_STATE_VERSION = 1
_COPY_BYTES = 1 << 20


@dataclass
class Progress:
    """The progress of an output: rows and bytes written, rows by status and by scope, and its inputs.

    `marks`: of resumed inputs, one text for each chunk, eight characters an input; `inputs`: the digest of
    all of them.
    """

    rows: int = 0
    bytes: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    scope: dict[str, int] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    inputs: InputDigest = field(default_factory=InputDigest)


class Output:
    """The only writer of an output file.

    `path` ends in .csv, .jsonl or .parquet. `identity`: everything that the rows depend on except the inputs;
    a run that resumes must have the same. `optional`: the columns after `error`. Use `open_output`.
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
        self.labels = labels
        self.optional = optional
        self.kind = kind
        self.identity = dict(identity)
        self.progress = Progress()
        self._checksum = 0
        self._files = ExitStack()
        self._rows: BinaryIO
        self._state: BinaryIO

    def look(self) -> tuple[bool, bool]:
        """Return whether a finished output exists, and whether an unfinished one does.

        Raises OutputError for a folder, and for an output of `wetread watch`.
        """
        if os.path.isdir(self.path) and not os.path.islink(self.path):
            raise OutputError(f"The output {self.path!r} is a folder. Choose the name of a file.")
        self._refuse_watched()
        return os.path.exists(self.path), os.path.exists(self.path + PART_SUFFIX)

    def _refuse_watched(self) -> None:
        journal = self.path + JOURNAL_SUFFIX
        if os.path.exists(journal):
            raise OutputError(
                f"{self.path!r} belongs to `wetread watch`. Choose another output, or end that watch and "
                f"move {journal!r} and the output away."
            )

    def is_finished(self) -> bool:
        """Whether the output is complete: it has its name, and there is no unfinished one."""
        exists, unfinished = self.look()
        if exists and not unfinished:
            remove_aside(self.path)
        return exists and not unfinished

    def read_record(self) -> dict[str, Any] | None:
        """Read the record beside the output; None if it does not exist or cannot be read."""
        return read_record(self.path)

    def is_own_leftover(self) -> bool:
        """Whether an unfinished output has this run's identity, or has no rows at all."""
        head = None
        with _explained(self.path):
            with suppress(FileNotFoundError), open(self.path + STATE_SUFFIX, "rb") as state:
                head = next(read_lines(state), None)
            if head is None:
                return os.path.getsize(self.path + PART_SUFFIX) <= len(self._header())
        return bool(head[0].get("identity") == self.identity)

    def check(self, kept: Mapping[str, Any]) -> None:
        """Compare the finished output with the size and checksum in its record. Raises OutputError."""
        found = self._measure()
        if found != kept:
            raise OutputError(
                f"{self.path!r} was cut or changed since it was written: {_words(kept)} then, "
                f"{_words(found)} now. Use --overwrite to write it again, or another output."
            )

    def _measure(self) -> dict[str, Any]:
        try:
            return _measure_file(self.path)
        except OSError as error:
            raise OutputError(
                f"{self.path!r} cannot be read: {error.strerror or error}. Give read permission, or choose "
                "another output."
            ) from error

    def write_rows(self, rows: Rows) -> None:
        """Append a chunk's rows, then their line of state. Raises OutputError if they cannot be written."""
        line = rows.describe()
        with _explained(self.path):
            _write_all(self._rows, rows.data)
            _write_all(self._state, encode_line(line))
            if not os.path.exists(self.path + PART_SUFFIX):
                raise OutputError(
                    f"{self.path + PART_SUFFIX!r} was removed during the run. Restore the folder and run "
                    "again."
                )
        self._checksum = zlib.crc32(rows.data, self._checksum)
        self._advance(line)

    def _header(self) -> bytes:
        return encode_header(self.labels, kind=self.kind, optional=self.optional)

    def _advance(self, line: Mapping[str, Any]) -> None:
        self.progress.rows += line["rows"]
        self.progress.inputs.add(line["marks"])
        self.progress.bytes += line["bytes"]
        for name, total in (("counts", self.progress.counts), ("scope", self.progress.scope)):
            for word, count in line.get(name, {}).items():
                total[word] = total.get(word, 0) + count

    def finish(self, record: Mapping[str, Any]) -> None:
        """Give the output its name, with its record beside it. Raises OutputError.

        The output's size and checksum are added to `record`.
        """
        self._refuse_watched()
        whole = self.path + PART_SUFFIX
        measured = {"bytes": self.progress.bytes, "crc32": f"{self._checksum:08x}"}
        with _explained(self.path):
            sync_file(self._rows.fileno())
            self._rows.close()
            if self.kind == "parquet":
                whole = self._make_parquet(whole)
                measured = _measure_file(whole)
            publish(whole, self.path, json.dumps({**record, "output": measured}, indent=2) + "\n")
            self._clear()

    def _make_parquet(self, spool: str) -> str:
        whole = hide(self.path)
        convert_to_parquet(spool, whole, self.labels, optional=self.optional)
        with open(whole, "r+b") as file:
            sync_file(file.fileno())
        return whole

    def _clear(self) -> None:
        """Remove what resuming needed, the rows first: after a kill the rest does not look unfinished."""
        with suppress(FileNotFoundError):
            os.remove(self.path + PART_SUFFIX)
        if os.name == "nt":  # it cannot remove an open file; elsewhere the lock is kept until the end
            self.close()
        with suppress(OSError):
            os.remove(self.path + STATE_SUFFIX)
        self.close()

    def close(self) -> None:
        """Close the files as they are; rows with a line of state can be resumed."""
        self._files.close()

    def start(self) -> None:
        """Begin with only the header."""
        data = self._header()
        with _explained(self.path):
            self._rows = self._open(PART_SUFFIX, "wb")
            self._state.truncate(0)
            self._state.seek(0)
            _write_all(self._rows, data)
            head = {"version": _STATE_VERSION, "identity": self.identity, "header": len(data)}
            _write_all(self._state, encode_line(head))
        self.progress.bytes, self._checksum = len(data), zlib.crc32(data)

    def hold(self) -> None:
        """Become the only writer. Raises OutputError if another run is writing this output."""
        with _explained(self.path):
            self._state = self._open(STATE_SUFFIX, "a+b")
            if not (lock_file(self._state) and is_named(self._state, self.path + STATE_SUFFIX)):
                self.close()
                raise OutputError(
                    f"Another run is writing {self.path!r}. Wait for it to end, or choose another output."
                )

    def _open(self, suffix: str, mode: str) -> BinaryIO:
        """Open a file beside the output, unbuffered: every write goes to the system at once."""
        return self._files.enter_context(open(self.path + suffix, mode, buffering=0))  # type: ignore[return-value]

    def resume(self) -> None:
        """Continue after the last chunk that has a line of state.

        Raises OutputError, which names the difference, if the unfinished run has another identity.
        """
        with _explained(self.path):
            self._state.seek(0)
            lines = read_lines(self._state)
            head = next(lines, None)
            if head is None or not os.path.exists(self.path + PART_SUFFIX):
                self.start()
                return
            check_identity(head[0].get("identity", {}), self.identity, output=self.path)
            self._rows = self._open(PART_SUFFIX, "r+b")
            if (
                self._rows.read(head[0]["header"]) != self._header()
            ):  # lost in a power failure: nothing can follow
                self._rows.close()
                self.start()
                return
            self._cut_to_state(lines, header=head[0]["header"], state_bytes=head[1])

    def _cut_to_state(
        self, lines: Iterator[tuple[dict[str, Any], int]], *, header: int, state_bytes: int
    ) -> None:
        """Keep the chunks whose rows are complete, byte for byte, and cut the rest off both files."""
        self.progress.bytes, self._checksum = header, zlib.crc32(self._header())
        for line, length in lines:
            data = self._rows.read(line["bytes"])
            if len(data) != line["bytes"] or zlib.crc32(data) != line["crc"]:
                break
            self._checksum = zlib.crc32(data, self._checksum)
            self._advance(line)
            self.progress.marks.append(line["marks"])
            state_bytes += length
        for file, size in ((self._rows, self.progress.bytes), (self._state, state_bytes)):
            file.truncate(size)
            file.seek(size)


def check_free(
    output: Output, *, resume: bool, overwrite: bool, advice: str = "--resume to continue it, "
) -> None:
    """Raise OutputError if an output exists and must not be changed.

    `advice`: what its command offers in addition to overwriting.
    """
    exists, unfinished = output.look()
    if (exists or unfinished) and not (resume or overwrite):
        kind = "a finished" if exists else "an unfinished"
        raise OutputError(
            f"{output.path!r} is already there, {kind} output. "
            f"Use {advice}--overwrite to replace it, or another name."
        )


@contextmanager
def open_output(output: Output, *, resume: bool) -> Iterator[Output]:
    """Open an output for the length of a run. Raises OutputError if another run is writing it."""
    output.hold()
    try:
        if resume:
            output.resume()
        else:
            output.start()
        yield output
    finally:
        output.close()


def check_identity(old: Mapping[str, Any], new: Mapping[str, Any], *, output: str) -> None:
    """Raise OutputError, which names the first difference, if two runs of one output differ."""
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            raise OutputError(
                f"{output!r} was begun with another {name}: {old.get(name)!r}, not {new.get(name)!r}. "
                "Use --overwrite to start again, or another output."
            )


def read_record(path: str) -> dict[str, Any] | None:
    """Read the record beside a finished output; None if it does not exist or cannot be read."""
    try:
        with open(path + RECORD_SUFFIX, encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write every byte: an unbuffered write may write fewer (on a nearly full disk)."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _words(measured: Mapping[str, Any]) -> str:
    checksums = ", ".join(f"{name} {value}" for name, value in measured.items() if name != "bytes")
    return f"{measured.get('bytes', 0):,} bytes, {checksums}"


def _measure_file(path: str) -> dict[str, Any]:
    """Return a file's size and CRC-32, reading it in pieces."""
    size = checksum = 0
    with open(path, "rb") as file:
        while data := file.read(_COPY_BYTES):
            size, checksum = size + len(data), zlib.crc32(data, checksum)
    return {"bytes": size, "crc32": f"{checksum:08x}"}


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not os.path.exists(path + PART_SUFFIX):
            raise OutputError(
                f"{path!r} cannot be written: {error.strerror or error}. Create its folder, or choose "
                "another --output."
            ) from error
        raise OutputError(
            f"{path!r} cannot be written: {error.strerror or error}. Close the program that has it open, "
            f"free disk space or restore the folder, then run again: {path + PART_SUFFIX!r} is kept."
        ) from error
