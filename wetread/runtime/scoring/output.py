"""An output file that appears under its name when it is whole, and can be resumed until then.

While a run goes on, rows grow in `scores.csv.part`, and `scores.csv.part.state` beside it holds what
resuming needs: one JSON line for the run's identity, then one for each chunk of rows, written after the
rows themselves. What the state does not vouch for (a half-written chunk, after a kill or a power cut) is
cut off when the run resumes.
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
from wetread.runtime.scoring.batches import Chunk
from wetread.runtime.scoring.checkpoint import encode_chunk, encode_line, read_lines
from wetread.runtime.scoring.input_digest import InputDigest
from wetread.runtime.scoring.rows import convert_to_parquet, encode_header

STATE_SUFFIX = PART_SUFFIX + ".state"
_STATE_VERSION = 1
_COPY_BYTES = 1 << 20


@dataclass
class Progress:
    """Where an output stands: rows and bytes written, rows by status and by scope, and what its inputs were.

    `marks` are those of resumed inputs, one text for each chunk, eight characters an input; `inputs` is the
    digest of all of them.
    """

    rows: int = 0
    bytes: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    scope: dict[str, int] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    inputs: InputDigest = field(default_factory=InputDigest)


class Output:
    """The one writer of an output file.

    `path` ends in .csv, .jsonl or .parquet. `identity` is all that the rows depend on apart from the
    inputs; a run that resumes must have the same. `optional` names the columns after `error`. Use
    `open_output`.
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
        """Tell whether the output is there under its name, and whether an unfinished one is.

        Raises OutputError for a folder, and for one that `wetread watch` writes.
        """
        if os.path.isdir(self.path) and not os.path.islink(self.path):
            raise OutputError(
                f"Expected a file's name for the output. Received {self.path!r}, a folder. Choose another "
                "output."
            )
        self._refuse_watched()
        return os.path.exists(self.path), os.path.exists(self.path + PART_SUFFIX)

    def _refuse_watched(self) -> None:
        journal = self.path + JOURNAL_SUFFIX
        if os.path.exists(journal):
            raise OutputError(
                f"Expected an output of its own. Received {self.path!r}, which belongs to `wetread watch`. "
                f"Choose another output; or end that watch, and move {journal!r} and the output away."
            )

    def is_finished(self) -> bool:
        """Tell whether the output is whole: it has its name, and nothing of it is under way."""
        exists, unfinished = self.look()
        if exists and not unfinished:
            remove_aside(self.path)
        return exists and not unfinished

    def read_record(self) -> dict[str, Any] | None:
        """Read the record beside the output; None where there is none that can be read."""
        return read_record(self.path)

    def is_own_leftover(self) -> bool:
        """Tell whether what a run left unfinished is of this identity; without any row it is as good."""
        head = None
        with _explained(self.path):
            with suppress(FileNotFoundError), open(self.path + STATE_SUFFIX, "rb") as state:
                head = next(read_lines(state), None)
            if head is None:
                return os.path.getsize(self.path + PART_SUFFIX) <= len(self._header())
        return bool(head[0].get("identity") == self.identity)

    def check(self, kept: Mapping[str, Any]) -> None:
        """Hold the finished output to the size and checksum in its record. Raises OutputError."""
        found = self._measure()
        if found != kept:
            raise OutputError(
                f"Expected {self.path!r} as it was written: {_words(kept)}. Received {_words(found)}: "
                "it was cut or changed since. Use --overwrite to write it again, or another output."
            )

    def _measure(self) -> dict[str, Any]:
        try:
            return _measure_file(self.path)
        except OSError as error:
            raise OutputError(
                f"Expected to read {self.path!r}. Received: {error.strerror or error}. Give read permission, "
                "or choose another output."
            ) from error

    def write_chunk(self, chunk: Chunk) -> None:
        """Append a chunk's rows, then vouch for them. Raises OutputError when the disk will not take them."""
        data, line = self._encode(chunk)
        with _explained(self.path):
            _write_all(self._rows, data)
            _write_all(self._state, encode_line(line))
            if not os.path.exists(self.path + PART_SUFFIX):
                raise OutputError(
                    f"Expected {self.path + PART_SUFFIX!r} to stay where it is. Received its removal during "
                    "the run. Restore the folder and run again."
                )
        self._checksum = zlib.crc32(data, self._checksum)
        self._advance(line)

    def _encode(self, chunk: Chunk) -> tuple[bytes, dict[str, Any]]:
        return encode_chunk(chunk, self.labels, kind=self.kind, optional=self.optional)

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

        The record tells the output's size and checksum besides what is given.
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
        """Remove what resuming needed, the rows first: what a kill leaves then does not look unfinished."""
        with suppress(FileNotFoundError):
            os.remove(self.path + PART_SUFFIX)
        if os.name == "nt":  # it removes no open file; elsewhere the lock is kept until nothing is left
            self.close()
        with suppress(OSError):
            os.remove(self.path + STATE_SUFFIX)
        self.close()

    def close(self) -> None:
        """Close the files as they stand; what was vouched for can be resumed."""
        self._files.close()

    def start(self) -> None:
        """Begin with the header alone."""
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
        """Become the only writer. Raises OutputError when another run writes this output."""
        with _explained(self.path):
            self._state = self._open(STATE_SUFFIX, "a+b")
            if not (lock_file(self._state) and is_named(self._state, self.path + STATE_SUFFIX)):
                self.close()
                raise OutputError(
                    f"Expected to be the only run that writes {self.path!r}. Received another one at work. "
                    "Wait for it to end, or choose another output."
                )

    def _open(self, suffix: str, mode: str) -> BinaryIO:
        """Open a file beside the output, unbuffered: what is written is the system's at once."""
        return self._files.enter_context(open(self.path + suffix, mode, buffering=0))  # type: ignore[return-value]

    def resume(self) -> None:
        """Continue after the last chunk that the state vouches for.

        Raises OutputError, naming the difference, when the run's identity is another one.
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
            ):  # a power cut took it: nothing can follow
                self._rows.close()
                self.start()
                return
            self._cut_to_vouched(lines, header=head[0]["header"], state_bytes=head[1])

    def _cut_to_vouched(
        self, lines: Iterator[tuple[dict[str, Any], int]], *, header: int, state_bytes: int
    ) -> None:
        """Keep the chunks whose rows are all there, byte for byte, and cut the rest off both files."""
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
    output: Output, *, resume: bool, overwrite: bool, advice: str = "--resume to go on with it, "
) -> None:
    """Raise OutputError when an output exists and may not be touched.

    `advice`: what else than overwriting its command has to offer.
    """
    exists, unfinished = output.look()
    if (exists or unfinished) and not (resume or overwrite):
        kind = "a finished output" if exists else "an unfinished one"
        raise OutputError(
            f"Expected no output at {output.path!r} yet. Received {kind}. "
            f"Use {advice}--overwrite to replace it, or another name."
        )


@contextmanager
def open_output(output: Output, *, resume: bool) -> Iterator[Output]:
    """Hold an output that is free for the length of a run. Raises OutputError where another run writes it."""
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
    """Raise OutputError naming the first thing that differs between two runs of one output."""
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            raise OutputError(
                f"Expected to resume {output!r} with the same {name}: {old.get(name)!r}. "
                f"Received {new.get(name)!r}. Use --overwrite to start again, or another output."
            )


def read_record(path: str) -> dict[str, Any] | None:
    """Read the record beside a finished output; None where there is none that can be read."""
    try:
        with open(path + RECORD_SUFFIX, encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write every byte: an unbuffered file may take fewer (a nearly full disk does)."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _words(measured: Mapping[str, Any]) -> str:
    checksums = ", ".join(f"{name} {value}" for name, value in measured.items() if name != "bytes")
    return f"{measured.get('bytes', 0):,} bytes, {checksums}"


def _measure_file(path: str) -> dict[str, Any]:
    """A file's size and CRC-32, a piece of it in memory at a time."""
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
                f"Expected to write {path!r}. Received: {error.strerror or error}. Make its folder, or "
                "choose another --output."
            ) from error
        raise OutputError(
            f"Expected to write {path!r}. Received: {error.strerror or error}. Close the program that holds "
            f"it, free the disk or restore the folder, then run again: {path + PART_SUFFIX!r} is kept."
        ) from error
