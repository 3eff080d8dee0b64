"""Check that local files are unchanged since a manifest listed them; for objects, the generation shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wetread.errors import ImageError, Status
from wetread.packages import importing
from wetread.runtime.entries import Entry, is_bucket_location
from wetread.runtime.files.reading import read_regular
from wetread.runtime.threads import map_in_order

_AT_ONCE, _AHEAD = 8, 64


def read_unchanged(entry: Entry) -> bytes:
    """Return a local file's bytes if it is unchanged. Raises ImageError('unreadable').

    With a checksum, size and crc32c are compared; without one, size and modification time, which are read
    after the bytes: a file that changes while it is read counts as changed.
    """
    data, status = read_regular(entry.name)
    if entry.checksum:
        from wetread.runtime.gcs.object_readers import compute_checksum

        same = len(data) == entry.size and compute_checksum(data) == entry.checksum
    else:
        same = entry == Entry.of_file(entry.name, size=len(data), modified=status.st_mtime_ns)
    if not same:
        raise ImageError(Status.UNREADABLE, "The file has changed since the manifest listed it.")
    return data


def add_checksums(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Add the crc32c of local files, in order, reading a few at a time; objects already have one.

    A file that cannot be read stays without one. Raises MissingExtraError without google-crc32c.
    """
    with importing("google-crc32c", extra="gcs"):
        import google_crc32c  # noqa: F401
    yield from map_in_order(_add_checksum, entries, threads=_AT_ONCE, ahead=_AHEAD, name="wetread-checksum")


def _add_checksum(entry: Entry) -> Entry:
    from wetread.runtime.gcs.object_readers import compute_checksum

    if is_bucket_location(entry.name):
        return entry
    try:
        return entry._replace(checksum=compute_checksum(read_regular(entry.name)[0]))
    except ImageError:
        return entry
