"""A manifest: an immutable list of inputs, written as a stream, read from anywhere, held to its own digest.

JSON Lines in ASCII, so that every name survives: a head, one array for each input, an index, a tail.

    {"wetread_manifest": 1, "columns": ["name", "size", "version", "crc32c"], "chunk": [32, 4194304], ...}
    ["gs://bucket/a.jpg", 31245, "1700000000000001", "yZRlqg=="]
    {"blocks": [[bytes, names, sha256], ...]}
    {"digest": sha256 of head and index, "names": N, "head": length, "index": [start, length]}

Blocks of some 1,024 inputs have digests of their own, and the digest of the whole is of those: whoever reads
a slice need not read the rest, and no name is used before its block was proven. Blocks end where a run's
chunks do, so that a slice is scored in the same batches as the whole.
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
from wetread.runtime.sources.unchanged import read_held

if TYPE_CHECKING:
    from wetread.runtime.gcs.reading import BucketReads

_VERSION = 1
_COLUMNS = ("name", "size", "version", "crc32c")
_CHUNK = [DEFAULT_BATCH, CHUNK_BYTES]
_BLOCK_NAMES = 1024
_TAIL_BYTES = 512


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring lines of a manifest: where they stand, which inputs they are, their SHA-256."""

    start: int
    length: int
    first: int
    names: int
    digest: str


def write_manifest(entries: Iterable[Entry], file: BinaryIO, *, origin: Mapping[str, Any]) -> int:
    """Write a manifest as a stream and return how many inputs it has; a block's lines are held at a time.

    `origin` tells where the list is from, for its readers; the rows do not depend on it.
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
    """The inputs that a manifest lists: a source, read block by block, each proven before it is used.

    `names` is how many there are, `digest` 64 hex digits that stand for all of it. An input that is not what
    was listed any more has no bytes. Raises SourceError for what is no manifest or has changed. `project` is
    billed where a bucket's requesters pay.
    """

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
        """Read head, index and tail, and hold them to the digest."""
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
            raise self._refuse("something else, or a part of one") from error
        size = start + length + len(line)
        if line != _make_tail(head, index, names=names, start=whole) or size != file.size:
            raise self._refuse("one that changed since: its digest is another")
        if parsed[0].get("wetread_manifest") != _VERSION:
            raise self._refuse(f"one of version {parsed[0].get('wetread_manifest')!r}, not {_VERSION}")
        return parsed

    def entries(self) -> Iterator[Entry]:
        """List every input, in order, a block at a time. Raises SourceError for a block that changed."""
        return chain.from_iterable(map(self._read_block, self._blocks))

    def explain_empty(self) -> str:
        """Say that the manifest lists nothing."""
        return f"the manifest {self.location!r} lists no input"

    def list_range(self, start: int, stop: int) -> Iterator[Entry]:
        """List the inputs from number `start` up to but without `stop`, reading the blocks that hold them."""
        number = self._find_block(start)
        if number < 0 or start >= stop:
            return iter(())
        entries = chain.from_iterable(map(self._read_block, self._blocks[number:]))
        first = self._blocks[number].first
        return islice(entries, start - first, stop - first)

    def find_cut(self, target: int, *, batch_size: int) -> int:
        """Find the first input at or after number `target` that a run over the whole begins a chunk with.

        Reads one block at the batch size that the blocks were made for, and all before `target` at another.
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
        """The block that holds an input; the last for what is beyond, -1 where there is none."""
        return bisect_right(self._blocks, max(number, 0), key=lambda block: block.first) - 1

    def _read_block(self, block: Block) -> list[Entry]:
        data = self._file.read(block.start, block.length)
        if hashlib.sha256(data).hexdigest() != block.digest:
            last = block.first + block.names
            raise self._refuse(f"one that changed since, among the names {block.first + 1:,} to {last:,}")
        return [Entry(*json.loads(line)) for line in data.splitlines()]

    def _refuse(self, received: str) -> SourceError:
        return SourceError(
            f"Expected a manifest as `wetread manifest` wrote it: {self.location!r}. Received {received}. "
            "Fetch it again, or make a new one."
        )

    def read(self, entry: Entry) -> bytes:
        """Return an input's bytes as they were listed. Raises ImageError('unreadable') if it changed."""
        if self._reads is not None or is_bucket_location(entry.name):
            return self._open_reads().read(entry)
        return read_held(entry)

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Pass entries on, fetching ahead from the first that is in a bucket."""
        for entry in entries:
            if is_bucket_location(entry.name):
                yield from self._open_reads().read_ahead(chain((entry,), entries))
                return
            yield entry

    def _open_reads(self) -> BucketReads:
        from wetread.runtime.gcs.client import Storage
        from wetread.runtime.gcs.reading import BucketReads

        if self._reads is None:
            self._reads = BucketReads(Storage(project=self._project), read_file=read_held)
        return self._reads

    def describe(self) -> dict[str, Any]:
        """Tell how reading from buckets went."""
        return {} if self._reads is None else self._reads.describe()


def _find_blocks(index: Iterable[tuple[int, int, str]], *, start: int) -> Iterator[Block]:
    first = 0
    for length, names, digest in index:
        yield Block(start, length, first, names, digest)
        start, first = start + length, first + names
