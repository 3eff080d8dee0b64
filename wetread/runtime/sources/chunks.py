"""Cut a listing into chunks, at positions that depend only on the listing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

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


def join_chunks(chunks: Iterable[list[Entry]], *, most: Callable[[], int]) -> Iterator[list[Entry]]:
    """Join neighbouring chunks up to `most()` entries; `group_entries` cuts them at the same places again."""
    following = iter(chunks)
    for joined in following:
        size = len(joined)
        try:
            while len(joined) + size <= most() and (more := next(following, None)):
                joined += more
        except WetreadError:
            yield joined  # what was listed before the error
            raise
        yield joined
