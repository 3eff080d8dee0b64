"""DICOM attributes beside the scores: read from the bytes that are scored, and set into their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from wetread.runtime.entries import Entry
from wetread.runtime.images.limits import MAX_MEMORY
from wetread.runtime.scoring.batches import Chunk


def check_tags(keywords: tuple[str, ...]) -> None:
    """See that attributes may stand in a table. Raises UsageError and MissingExtraError as `choose_tags`."""
    if keywords:  # whoever asks for none loads nothing for them
        from wetread.runtime.images.dicom.tags import choose_tags

        choose_tags(keywords)


class Tagging:
    """Reads inputs as `read` does, and remembers what their attributes say until their rows are there.

    Raises UsageError and MissingExtraError as `choose_tags` does.
    """

    def __init__(
        self, keywords: tuple[str, ...], read: Callable[[Entry], bytes], *, max_memory: int = MAX_MEMORY
    ) -> None:
        self._read_tags = _make_reader(keywords, max_memory) if keywords else None
        self._read = read
        # By the entry itself and not by its name: a list may name a file twice.
        self._found: dict[int, dict[str, str | None]] = {}

    def read(self, entry: Entry) -> bytes:
        """Return a file's bytes. Raises ImageError as `read` does."""
        data = self._read(entry)
        if self._read_tags is not None:
            self._found[id(entry)] = self._read_tags(data)
        return data

    def attach(self, chunk: Chunk) -> Chunk:
        """Set what was found into a chunk's rows."""
        if self._read_tags is None:
            return chunk
        rows = zip(chunk.entries, chunk.predictions, strict=True)
        tagged = [
            replace(row, optional={**row.optional, **self._found.pop(id(entry), {})}) for entry, row in rows
        ]
        return replace(chunk, predictions=tagged)


def _make_reader(keywords: tuple[str, ...], max_memory: int) -> Callable[[bytes], dict[str, str | None]]:
    from wetread.runtime.images.dicom.tags import choose_tags, read_tags

    tags = choose_tags(keywords)
    return lambda data: read_tags(data, tags, max_memory=max_memory)
