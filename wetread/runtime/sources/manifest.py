"""Manifests: an immutable list of inputs with a digest, written as a stream and readable from any position.

The format is JSON Lines in ASCII, which can hold every name: a head, one array for each input, an index, a
tail.

    {"wetread_manifest": 1, "columns": ["name", "size", "version", "crc32c"], "chunk": [32, 4194304], ...}
    ["gs://bucket/a.jpg", 31245, "1700000000000001", "yZRlqg=="]
    {"blocks": [[bytes, names, sha256], ...]}
    {"digest": sha256 of head and index, "names": N, "head": length, "index": [start, length]}

Blocks of about 1,024 inputs have their own digests, and the manifest's digest is computed from those. So a
shard can be read without the rest, and no name is used before its block is verified. Blocks end where a run's
chunks end, so a shard is scored in the same batches as the whole.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO

from wetread.errors import SourceError
from wetread.runtime.entries import Entry, is_bucket_location
from wetread.runtime.sources.chunks import CHUNK_BYTES, DEFAULT_BATCH, group_entries
from wetread.runtime.sources.shared_folder import Bytes, open_bytes
from wetread.runtime.sources.unchanged import read_unchanged

if TYPE_CHECKING:
    from wetread.runtime.gcs.reading import BucketReads

_VERSION = 1
_COLUMNS = ("name", "size", "version", "crc32c")
_CHUNK = [DEFAULT_BATCH, CHUNK_BYTES]
_BLOCK_NAMES = 1024
_TAIL_BYTES = 512


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring lines of a manifest: their position in the file, their inputs, their SHA-256."""

    start: int
    length: int
    first: int
    names: int
    digest: str


def write_manifest(entries: Iterable[Entry], file: BinaryIO, *, origin: Mapping[str, Any]) -> int:
    """Write a manifest as a stream and return its number of inputs; only one block is kept in memory.

    `origin` says where the list comes from, for human readers; the rows do not depend on it.
    """
    head = _line({"wetread_manifest": _VERSION, "columns": _COLUMNS, "chunk": _CHUNK, **origin})
    file.write(head)
    blocks: list[tuple[int, int, str]] = []
    for block in _group_blocks(entries):
        data = b"".join(_line([e.name, e.size, e.version, e.checksum]) for e in block)
        file.write(data)
        blocks.append((len(data), len(block), hashlib.sha256(data).hexdigest()))
    index = _line({"blocks": blocks})
    names, start = sum(block[1] for block in blocks), len(head) + sum(block[0] for block in blocks)
    file.write(index)
    file.write(_make_tail(head, index, names=names, start=start))
    return names


def _group_blocks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    block: list[Entry] = []
    for chunk in group_entries(entries, batch_size=DEFAULT_BATCH):
        block += chunk
        if len(block) >= _BLOCK_NAMES:
            yield block
            block = []
    if block:
        yield block


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _make_tail(head: bytes, index: bytes, *, names: int, start: int) -> bytes:
    digest = hashlib.sha256(head + index).hexdigest()
    return _line({"digest": digest, "names": names, "head": len(head), "index": [start, len(index)]})


class Manifest:
    """The inputs of a manifest as a source, read block by block; each block is verified before it is used.

    `names`: the number of inputs; `digest`: 64 hex digits, of the whole manifest. Reading an input that has
    changed since it was listed fails. Raises SourceError for a file that is not a manifest or has changed.
    `project` is billed for requester-pays buckets.
    """

    read_file = staticmethod(read_unchanged)

    def __init__(self, location: str, *, project: str | None = None) -> None:
        self.location = location
        self._project = project
        self._file = open_bytes(location, project=project)
        head, index, tail = self._read_frame(self._file)
        self.digest, self.names = str(tail["digest"]), int(tail["names"])
        self._blocks = list(_find_blocks(index["blocks"], start=tail["head"]))
        self._aligned = head["chunk"] == _CHUNK
        self._reads: BucketReads | None = None

    def _read_frame(self, file: Bytes) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Read head, index and tail, and check them against the digest."""
        try:
            last = file.read(max(0, file.size - _TAIL_BYTES), min(file.size, _TAIL_BYTES))
            line = last[last.rstrip(b"\n").rfind(b"\n") + 1 :]
            tail = json.loads(line)
            start, length = tail["index"]
            head, index = file.read(0, tail["head"]), file.read(start, length)
            parsed = json.loads(head), json.loads(index), tail
            names = sum(block[1] for block in parsed[1]["blocks"])
            whole = len(head) + sum(block[0] for block in parsed[1]["blocks"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise self._refuse("it is another kind of file, or incomplete") from error
        size = start + length + len(line)
        if line != _make_tail(head, index, names=names, start=whole) or size != file.size:
            raise self._refuse("it has changed, because its digest differs")
        if parsed[0].get("wetread_manifest") != _VERSION:
            raise self._refuse(f"its version is {parsed[0].get('wetread_manifest')!r}, not {_VERSION}")
        return parsed

    def entries(self) -> Iterator[Entry]:
        """List every input, in order, a block at a time. Raises SourceError for a block that has changed."""
        return chain.from_iterable(map(self._read_block, self._blocks))

    def explain_empty(self) -> str:
        """Describe the manifest as empty."""
        return f"the manifest {self.location!r} lists no input"

    def list_range(self, start: int, stop: int) -> Iterator[Entry]:
        """List the inputs from number `start` up to, not including, `stop`, reading only their blocks."""
        number = self._find_block(start)
        if number < 0 or start >= stop:
            return iter(())
        entries = chain.from_iterable(map(self._read_block, self._blocks[number:]))
        first = self._blocks[number].first
        return islice(entries, start - first, stop - first)

    def find_cut(self, target: int, *, batch_size: int) -> int:
        """Find the first input at or after number `target` at which a run over the whole begins a chunk.

        Reads one block if `batch_size` is the one that the blocks were made for, else all before `target`.
        """
        number = self._find_block(target) if self._aligned and batch_size == DEFAULT_BATCH else 0
        if number < 0 or target >= self.names:
            return self.names
        at = self._blocks[number].first
        for group in group_entries(self.list_range(at, self.names), batch_size=batch_size):
            if at >= target:
                break
            at += len(group)
        return at

    def _find_block(self, number: int) -> int:
        """Return the index of the block of an input; the last block for numbers beyond, -1 without blocks."""
        return bisect_right(self._blocks, max(number, 0), key=lambda block: block.first) - 1

    def _read_block(self, block: Block) -> list[Entry]:
        data = self._file.read(block.start, block.length)
        if hashlib.sha256(data).hexdigest() != block.digest:
            last = block.first + block.names
            raise self._refuse(f"it has changed, among the names {block.first + 1:,} to {last:,}")
        return [Entry(*json.loads(line)) for line in data.splitlines()]

    def _refuse(self, reason: str) -> SourceError:
        return SourceError(
            f"{self.location!r} is not a manifest as `wetread manifest` wrote it: {reason}. "
            "Copy it again, or make a new one."
        )

    def read(self, entry: Entry) -> bytes:
        """Return an input's bytes. Raises ImageError('unreadable') if it has changed since it was listed."""
        if self._reads is not None or is_bucket_location(entry.name):
            return self._open_reads().read(entry)
        return read_unchanged(entry)

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Return entries, prefetching from the first one that is in a bucket."""
        for entry in entries:
            if is_bucket_location(entry.name):
                yield from self._open_reads().read_ahead(chain((entry,), entries))
                return
            yield entry

    def _open_reads(self) -> BucketReads:
        from wetread.runtime.gcs.client import Storage
        from wetread.runtime.gcs.reading import BucketReads

        if self._reads is None:
            self._reads = BucketReads(Storage(project=self._project), read_file=read_unchanged)
        return self._reads

    def describe(self) -> dict[str, Any]:
        """Return statistics about reading from buckets."""
        return {} if self._reads is None else self._reads.describe()


def _find_blocks(index: Iterable[tuple[int, int, str]], *, start: int) -> Iterator[Block]:
    first = 0
    for length, names, digest in index:
        yield Block(start, length, first, names, digest)
        start, first = start + length, first + names
