"""The state of an unfinished output: one line of JSON, with a checksum, for each chunk of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO


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
