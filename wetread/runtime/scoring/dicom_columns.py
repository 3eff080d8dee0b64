"""DICOM attributes as columns: read from the same bytes that are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from wetread.runtime.entries import Entry
from wetread.runtime.images.limits import MAX_MEMORY

if TYPE_CHECKING:
    from wetread.runtime.images.dicom.tags import Tag
    from wetread.runtime.images.dicom.values import DicomObject


def check_tags(keywords: tuple[str, ...]) -> tuple[Tag, ...]:
    """Check that attributes may be columns. Raises UsageError and MissingExtraError as `choose_tags`."""
    if not keywords:  # without attributes nothing is imported for them
        return ()
    from wetread.runtime.images.dicom.tags import choose_tags

    return choose_tags(keywords)


class Tagging:
    """Reads inputs as `read` does, and keeps their attributes until they are taken.

    Raises UsageError and MissingExtraError as `choose_tags` does.
    """

    def __init__(
        self, keywords: tuple[str, ...], read: Callable[[Entry], bytes], *, max_memory: int = MAX_MEMORY
    ) -> None:
        self._tags = check_tags(keywords)
        self._read, self._max_memory = read, max_memory
        # The key is the entry itself, not its name: a list may name a file twice.
        self._found: dict[int, dict[str, str | None]] = {}

    @property
    def reading(self) -> Callable[[Entry], bytes | DicomObject]:
        """What reads an input: a file's bytes, or the object that was parsed for its attributes."""
        return self.read if self._tags else self._read

    def read(self, entry: Entry) -> bytes | DicomObject:
        """Read an input as `reading` does. Raises as `read` does."""
        data = self._read(entry)
        if not self._tags:
            return data
        from wetread.runtime.images.dicom.tags import parse_once, read_tags

        found = parse_once(data, max_memory=self._max_memory)
        self._found[id(entry)] = read_tags(found, self._tags)
        return found

    def take(self, entries: list[Entry]) -> list[Mapping[str, str | None]]:
        """Return the attributes of each of the entries that were read; none where no column was asked for."""
        return [self._found.pop(id(entry), {}) for entry in entries] if self._tags else []
