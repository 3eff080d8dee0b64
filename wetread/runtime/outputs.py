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
from wetread.runtime.locks import lock_file
from wetread.runtime.results import convert_to_parquet, encode_header, encode_rows
from wetread.runtime.scoring import Chunk
from wetread.runtime.sources import PART_SUFFIX, RECORD_SUFFIX, Entry, is_bucket_location

STATE_SUFFIX = PART_SUFFIX + ".state"
_STATE_VERSION = 1
_COPY_BYTES = 1 << 20


@dataclass
class Progress:
    """Where an output stands: rows and bytes written, rows by status, and the marks of resumed inputs.

    `marks` holds one text for each chunk, eight characters an input.
    """

    rows: int = 0
    bytes: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)


def mark_entry(entry: Entry) -> str:
    """Eight hex digits that change with an input's name, size or version."""
    text = f"{entry.name}\0{entry.size}\0{entry.version}"
    return f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"


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
        self._files = ExitStack()
        self._rows: BinaryIO
        self._state: BinaryIO

    def look(self) -> tuple[bool, bool]:
        """Tell whether the output is there under its name, and whether an unfinished one is."""
        return os.path.exists(self.path), os.path.exists(self.path + PART_SUFFIX)

    def is_finished(self) -> bool:
        """Tell whether the output is whole: it has its name, and nothing of it is under way."""
        exists, unfinished = self.look()
        return exists and not unfinished

    def read_record(self) -> dict[str, Any] | None:
        """Read the record beside the output; None where there is none that can be read."""
        return read_record(self.path)

    def write_chunk(self, chunk: Chunk) -> None:
        """Append a chunk's rows, then vouch for them. Raises OutputError when the disk will not take them."""
        data, line = self._encode(chunk)
        with _explained(self.path):
            _write_all(self._rows, data)
            _write_all(self._state, _json_line(line))
            if not os.path.exists(self.path + PART_SUFFIX):
                raise OutputError(
                    f"Expected {self.path + PART_SUFFIX!r} to stay where it is. Received its removal during "
                    "the run. Restore the folder and run again."
                )
        self._advance(line)

    def _encode(self, chunk: Chunk) -> tuple[bytes, dict[str, Any]]:
        return encode_chunk(chunk, self.labels, kind=self.kind, optional=self.optional)

    def _header(self) -> bytes:
        return encode_header(self.labels, kind=self.kind, optional=self.optional)

    def _advance(self, line: Mapping[str, Any]) -> None:
        self.progress.rows += line["rows"]
        self.progress.bytes += line["bytes"]
        for status, count in line["counts"].items():
            self.progress.counts[status] = self.progress.counts.get(status, 0) + count

    def finish(self, record: Mapping[str, Any]) -> None:
        """Give the output its name, with its record beside it. Raises OutputError."""
        part = self.path + PART_SUFFIX
        with _explained(self.path):
            os.fsync(self._rows.fileno())
            whole = part
            if self.kind == "parquet":
                whole = _hidden(self.path)
                convert_to_parquet(part, whole, self.labels, optional=self.optional)
            # The record first: a whole output without one could not be told from a user's own file.
            write_atomically(self.path + RECORD_SUFFIX, _json_text(record))
            self._rows.close()
            os.replace(whole, self.path)
            sync_folder(self.path)
            self.close()
            for name in (self.path + STATE_SUFFIX, part):
                with suppress(FileNotFoundError):
                    os.remove(name)

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
            _write_all(self._state, _json_line(head))
        self.progress.bytes = len(data)

    def hold(self) -> None:
        """Become the only writer. Raises OutputError when another run writes this output."""
        with _explained(self.path):
            self._state = self._open(STATE_SUFFIX, "a+b")
            if not (lock_file(self._state) and _is_named(self._state, self.path + STATE_SUFFIX)):
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
            lines = _read_lines(self._state)
            head = next(lines, None)
            if head is None or not os.path.exists(self.path + PART_SUFFIX):
                self.start()
                return
            check_identity(head[0].get("identity", {}), self.identity, output=self.path)
            self._rows = self._open(PART_SUFFIX, "r+b")
            self._cut_to_vouched(lines, header=head[0]["header"], state_bytes=head[1])

    def _cut_to_vouched(
        self, lines: Iterator[tuple[dict[str, Any], int]], *, header: int, state_bytes: int
    ) -> None:
        """Keep the chunks whose rows are all there, byte for byte, and cut the rest off both files."""
        self.progress.bytes = header
        self._rows.seek(header)
        for line, length in lines:
            data = self._rows.read(line["bytes"])
            if len(data) != line["bytes"] or zlib.crc32(data) != line["crc"]:
                break
            self._advance(line)
            self.progress.marks.append(line["marks"])
            state_bytes += length
        for file, size in ((self._rows, self.progress.bytes), (self._state, state_bytes)):
            file.truncate(size)
            file.seek(size)


def make_output(
    path: str,
    *,
    labels: tuple[str, ...],
    kind: str,
    identity: Mapping[str, Any],
    optional: tuple[str, ...] = (),
    project: str | None = None,
) -> Output:
    """Make the writer of a local output or one in a bucket, without touching anything yet.

    Arguments as of `Output`; `project` is billed where a bucket's requesters pay. Raises MissingExtraError
    and SourceError as opening a `gs://` source does.
    """
    if not is_bucket_location(path):
        return Output(path, labels=labels, kind=kind, identity=identity, optional=optional)
    from wetread.runtime.gcs import Storage
    from wetread.runtime.gcs_output import BucketOutput

    storage = Storage(project=project)
    return BucketOutput(path, labels=labels, kind=kind, identity=identity, optional=optional, storage=storage)


def encode_chunk(
    chunk: Chunk, labels: tuple[str, ...], *, kind: str, optional: tuple[str, ...] = ()
) -> tuple[bytes, dict[str, Any]]:
    """Write a chunk's rows as they are spooled, and the line of state that vouches for them."""
    spooled = "csv" if kind == "csv" else "jsonl"
    data = encode_rows(chunk.predictions, labels, kind=spooled, optional=optional)
    counts: dict[str, int] = {}
    for prediction in chunk.predictions:
        counts[prediction.status] = counts.get(prediction.status, 0) + 1
    marks = "".join(mark_entry(entry) for entry in chunk.entries)
    line = {"rows": len(chunk.predictions), "bytes": len(data), "crc": zlib.crc32(data)}
    return data, line | {"counts": counts, "marks": marks}


@contextmanager
def open_output(
    output: Output, *, resume: bool, overwrite: bool, advice: str = "--resume to go on with it, "
) -> Iterator[Output]:
    """Hold an output for the length of a run. Raises OutputError when it exists and may not be touched.

    `advice`: what else than overwriting its command has to offer.
    """
    exists, unfinished = output.look()
    if (exists or unfinished) and not (resume or overwrite):
        kind = "a finished output" if exists else "an unfinished one"
        raise OutputError(
            f"Expected no output at {output.path!r} yet. Received {kind}. "
            f"Use {advice}--overwrite to replace it, or another name."
        )
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


def skip_written(entries: Iterator[Entry], output: Output) -> Iterator[Entry]:
    """Pass over the inputs whose rows stand already, holding each to its mark.

    Raises OutputError naming the input that is gone, new, or changed in size or modification time.
    """
    marks = (chunk[at : at + 8] for chunk in output.progress.marks for at in range(0, len(chunk), 8))
    for row, mark in enumerate(marks):
        entry = next(entries, None)
        if entry is None or mark_entry(entry) != mark:
            found = f"{entry.name!r} (size {entry.size})" if entry else "the end of the listing"
            raise OutputError(
                f"Expected input {row + 1:,} to be as it was when {output.path!r} was begun. Received "
                f"{found}: a file was added, removed, renamed or changed. Use --overwrite to start again."
            )
    output.progress.marks.clear()
    yield from entries


def _is_named(file: BinaryIO, path: str) -> bool:
    """Tell whether an open file still stands under its name: a run that just ended removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _read_lines(state: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    """Whole JSON lines and their lengths, up to the first that is cut or damaged."""
    with open(state.fileno(), "rb", closefd=False) as buffered:
        for line in buffered:
            try:
                parsed = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                return
            if not isinstance(parsed, dict):
                return
            yield parsed, len(line)


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write every byte: an unbuffered file may take fewer (a nearly full disk does)."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def write_atomically(path: str, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    temporary = _hidden(path)
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(temporary)


def _hidden(path: str) -> str:
    """A dot-file beside `path`: one that a kill leaves behind is never taken for an input."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.tmp")


def sync_folder(path: str) -> None:
    """Make a rename survive a power cut, where the system can (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _json_line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _json_text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


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
            f"Expected to write {path!r}. Received: {error.strerror or error}. Rows written so far stay in "
            f"{path + PART_SUFFIX!r}; free the disk or restore the folder, then use --resume."
        ) from error
