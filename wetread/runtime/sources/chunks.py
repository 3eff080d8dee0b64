"""Cut a listing into chunks, at positions that depend only on the listing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import monotonic

from wetread.errors import WetreadError
from wetread.runtime.entries import Entry

DEFAULT_BATCH = 32


# A chunk ends once its files hold this many bytes: 32 full-size X-rays would keep one worker for seconds.
CHUNK_BYTES = 4 << 20


def group_entries(entries: Iterable[Entry], *, batch_size: int) -> Iterator[list[Entry]]:
    """Cut a listing into chunks of `batch_size` files, or of a few MB if files are large."""
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += entry.size or 0
        if len(chunk) == batch_size or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def join_chunks(
    chunks: Iterable[list[Entry]], *, most_entries: Callable[[], int], seconds: float
) -> Iterator[list[Entry]]:
    """Join neighbouring chunks; `group_entries` cuts them at the same places again.

    There are at most `most_entries()` entries in joined chunks, and as many bytes as in one. After `seconds`
    of waiting for the listing, no more is waited for.
    """
    joined: list[Entry] = []
    size, end = 0, 0.0
    try:
        for chunk in chunks:
            more = sum(CHUNK_BYTES if entry.size is None else entry.size for entry in chunk)
            if joined and (len(joined) + len(chunk) > most_entries() or size + more > CHUNK_BYTES):
                yield joined
                joined = []
            if not joined:
                size, end = 0, monotonic() + seconds
            joined = joined + chunk
            size += more
            if len(joined) + len(chunk) > most_entries() or size >= CHUNK_BYTES or monotonic() > end:
                yield joined
                joined = []
    except WetreadError:
        if joined:
            yield joined  # what was listed before the error
        raise
    if joined:
        yield joined
