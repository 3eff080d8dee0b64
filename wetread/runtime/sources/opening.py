"""Open one or several locations as a source: local, or in Cloud Storage."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wetread.errors import EmptySourceWarning, UsageError
from wetread.runtime.entries import Entry, Source, is_bucket_location
from wetread.runtime.files.globs import is_wildcard
from wetread.runtime.files.reading import read_entry
from wetread.runtime.sources.local import LocalFolder, LocalGlob

if TYPE_CHECKING:
    from wetread.runtime.gcs.reading import BucketReads

# At least two letters: C:// is a drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def open_source(
    location: str | os.PathLike[str], *, include: str | None = None, project: str | None = None
) -> Source:
    """Open a local file, folder or glob, or a `gs://` location.

    `include`: only names that match this glob are listed. It is matched against the name below the source
    (only against the last part if it has no `/`). `project` is billed for requester-pays buckets. Raises
    SourceError if nothing is there, UsageError for an address of another storage (`s3://`), and
    MissingExtraError for `gs://` without the extra `gcs`.
    """
    reads = open_reads(project) if is_bucket_location(location) else None
    return _open(os.fspath(location), include, reads)


def open_sources(
    locations: Iterable[str | os.PathLike[str]],
    *,
    include: str | None = None,
    project: str | None = None,
    allow_empty: bool = False,
) -> Source:
    """Open several locations as one source, one after the other. Arguments as in `open_source`.

    `allow_empty`: a `gs://` prefix without objects is an empty source, not a wrong name.
    """
    names = [os.fspath(location) for location in locations]
    reads = open_reads(project) if any(map(is_bucket_location, names)) else None
    parts = tuple(_open(name, include, reads, allow_empty=allow_empty) for name in names)
    return Chain(parts, reads, allow_empty=allow_empty)


def open_reads(project: str | None) -> BucketReads:
    """Create the reader of objects. Raises MissingExtraError without the extra `gcs`, and SourceError."""
    from wetread.runtime.gcs.client import Storage
    from wetread.runtime.gcs.reading import BucketReads

    return BucketReads(Storage(project=project))


def _open(
    location: str, include: str | None, reads: BucketReads | None, *, allow_empty: bool = False
) -> Source:
    _refuse_other_storage(location)
    if reads is not None and is_bucket_location(location):
        from wetread.runtime.gcs.listing import BucketFolder

        return BucketFolder(reads, location, include=include, allow_empty=allow_empty)
    if not os.path.lexists(location) and is_wildcard(location):
        return LocalGlob(location, include=include)
    return LocalFolder(location, include=include)


@dataclass(frozen=True)
class Chain:
    """Several sources, one after the other; `reads` reads those that are in buckets."""

    parts: tuple[Source, ...]
    reads: BucketReads | None = None
    allow_empty: bool = False

    @property
    def read_file(self) -> Callable[[Entry], bytes]:
        """What reads local files, in any process."""
        return read_entry

    def entries(self) -> Iterator[Entry]:
        """List each part in turn. If one of several lists nothing, warns with an EmptySourceWarning."""
        empty = []
        for part in self.parts:
            entries = part.entries()
            first = next(entries, None)
            if first is None:
                empty.append(part)
            else:
                yield first
                yield from entries
        if len(empty) < len(self.parts) and not self.allow_empty:
            for part in empty:
                warnings.warn(
                    f"A source lists nothing: {part.explain_empty()}.", EmptySourceWarning, stacklevel=2
                )

    def read(self, entry: Entry) -> bytes:
        """Read one listed entry, local or in a bucket."""
        return read_entry(entry) if self.reads is None else self.reads.read(entry)

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Return entries, prefetching if a part is in a bucket."""
        return entries if self.reads is None else self.reads.read_ahead(entries)

    def describe(self) -> dict[str, Any]:
        """Return statistics about reading from buckets."""
        return {} if self.reads is None else self.reads.describe()

    def explain_empty(self) -> str:
        """Describe what each part contains."""
        return "; ".join(part.explain_empty() for part in self.parts)


def _refuse_other_storage(location: str) -> None:
    """Raise UsageError for an address that is neither a local name nor in Cloud Storage."""
    found = _SCHEME.match(location)
    if found and not is_bucket_location(location) and not os.path.lexists(location):
        raise UsageError(
            f"{found.group()} is not supported: {location!r}. Sources are local files, folders and globs, or "
            "gs://BUCKET/NAME. Copy the images to this disk first, or mount the storage as a folder."
        )
