"""Reading objects: what every way of it shares, and the way through google-cloud-storage.

Every object is asked for in the generation that was listed and held to its size and crc32c. The lean reader
(wetread.runtime.gcs.direct_reading), which costs a fraction of the processor time, makes the first attempts;
Google's client the later ones, and all of those that the lean one cannot make.
"""

from __future__ import annotations

import base64
import zlib
from typing import Protocol

from wetread.errors import UsageError
from wetread.runtime.entries import Entry
from wetread.runtime.gcs.client import Storage, split_location
from wetread.runtime.gcs.failures import LocationError

_TIMEOUT = 60.0
# What a gzip-encoded object may unpack to: more is not an image of ours but an attack on memory.
_UNPACKED = 1 << 30


class BadBytesError(OSError):
    """The bytes that came are not those that the listing promised."""


class Reader(Protocol):
    """One way to fetch an object's bytes, held to the listing; nothing is asked twice."""

    name: str

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of one generation. Raises what `is_failure` holds for."""
        ...


class GoogleReader:
    """google-cloud-storage: knows every way in."""

    name = "google-cloud-storage"

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of one generation, held to the answer's own checksum where none was listed."""
        bucket, name = split_name(entry)
        generation = int(entry.version) if entry.version else None
        blob = self._storage.bucket(bucket).blob(name, generation=generation)
        listed = bool(entry.checksum)
        data: bytes = blob.download_as_bytes(
            raw_download=True, checksum=None if listed else "crc32c", retry=None, timeout=_TIMEOUT
        )
        check_bytes(data, entry)
        if entry.size is None and not (listed or blob.crc32c):
            raise BadBytesError("bytes with neither a size nor a crc32c to verify them against")
        return unpack_encoded(data, blob.content_encoding or "")


def split_name(entry: Entry) -> tuple[str, str]:
    """Split an entry's URI into bucket and name. Raises LocationError, which becomes its row."""
    try:
        return split_location(entry.name)
    except UsageError as error:
        raise LocationError(str(error)) from error


def check_bytes(data: bytes, entry: Entry) -> None:
    """Hold bytes to the size and the crc32c of the listing. Raises BadBytesError."""
    if entry.size is not None and len(data) != entry.size:
        raise BadBytesError(f"{len(data):,} bytes where the listing says {entry.size:,}")
    if entry.checksum and compute_checksum(data) != entry.checksum:
        raise BadBytesError(f"bytes whose crc32c is not the listing's {entry.checksum}")


def compute_checksum(data: bytes) -> str:
    """The crc32c of bytes as Cloud Storage writes it: base64 of four bytes, big-endian."""
    from google_crc32c import value

    return base64.b64encode(value(data).to_bytes(4, "big")).decode()


def unpack_encoded(data: bytes, encoding: str) -> bytes:
    """Unpack bytes of a content encoding: gzip alone; others are names that mean nothing here.

    Raises BadBytesError for gzip together with another, which nobody can have meant.
    """
    names = [name for name in encoding.lower().replace(" ", "").split(",") if name]
    if "gzip" not in names:
        return data
    if len(names) > 1:
        raise BadBytesError(f"bytes of the content encodings {encoding.strip()}")
    return unpack(data)


def unpack(data: bytes) -> bytes:
    """Unpack gzip, of one member or several (RFC 1952), up to 1 GB. Raises BadBytesError."""
    found: list[bytes] = []
    size = 0
    while data or not found:
        packed = zlib.decompressobj(31)
        try:
            found.append(packed.decompress(data, max(1, _UNPACKED - size)))
        except zlib.error as error:
            raise BadBytesError(f"bytes that are not the gzip they are said to be: {error}") from error
        if not packed.eof:
            raise BadBytesError("gzip that ends early, or unpacks to more than 1 GB")
        size, data = size + len(found[-1]), packed.unused_data.lstrip(b"\0")  # padding, as gzip takes it
    return b"".join(found)
