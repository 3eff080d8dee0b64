"""The state of an unfinished output: one line of JSON, with a checksum, for each chunk of rows."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from wetread.runtime.scoring.batches import Chunk
from wetread.runtime.scoring.input_digest import mark_entry
from wetread.runtime.scoring.rows import count_scope, encode_rows


def encode_chunk(
    chunk: Chunk, labels: tuple[str, ...], *, kind: str, optional: tuple[str, ...] = ()
) -> tuple[bytes, dict[str, Any]]:
    """Encode a chunk's rows as they are spooled, and their line of state."""
    spooled = "csv" if kind == "csv" else "jsonl"
    data = encode_rows(chunk.predictions, labels, kind=spooled, optional=optional)
    counts: dict[str, int] = {}
    for prediction in chunk.predictions:
        counts[prediction.status] = counts.get(prediction.status, 0) + 1
    marks = "".join(mark_entry(entry) for entry in chunk.entries)
    line = {"rows": len(chunk.predictions), "bytes": len(data), "crc": zlib.crc32(data)}
    scope = count_scope(chunk.predictions)
    return data, line | {"counts": counts, "marks": marks} | ({"scope": scope} if scope else {})


def encode_line(value: Mapping[str, Any]) -> bytes:
    """Encode a line of state."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def read_lines(state: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield complete JSON lines and their lengths, up to the first that is cut or damaged."""
    with open(state.fileno(), "rb", closefd=False) as buffered:
        for line in buffered:
            try:
                parsed = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                return
            if not isinstance(parsed, dict):
                return
            yield parsed, len(line)
