"""Reading objects: by obstore where it can, by google-cloud-storage where it must, held to the listing.

Every object is asked for in the generation that was listed and held to its size and crc32c. obstore, which
costs a fraction of the processor time, makes the first attempts; Google's client the later ones, and all of
those that obstore cannot make (a bucket whose requesters pay, a proxy, names such as `a//b`, objects stored
with gzip encoding). The figures are in docs/gcs.md.
"""

from __future__ import annotations

import base64
import os
import threading
import zlib
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any, Protocol

from wetread.errors import UsageError
from wetread.runtime.gcs import Storage, split_location
from wetread.runtime.sources import Entry

_TIMEOUT = 60.0
# What a gzip-encoded object may unpack to: more is not an image of ours but an attack on memory.
_UNPACKED = 1 << 30


class BadBytesError(OSError):
    """The bytes that came are not those that the listing promised."""


class Reader(Protocol):
    """One way to fetch an object's bytes, held to the listing; nothing is asked twice."""

    name: str

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of one generation. Raises one of `storage_errors`, or BadBytesError."""
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
        return _unpack(data) if blob.content_encoding == "gzip" else data


class ObstoreReader:
    """obstore: a fraction of the processor time, fewer ways in."""

    name = "obstore"

    def __init__(self, storage: Storage) -> None:
        import obstore
        from obstore.store import GCSStore

        self._get: Any = obstore.get
        self._make: Any = GCSStore
        self._storage = storage
        self._stores: dict[str, Any] = {}
        self._lock = threading.Lock()

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of one generation."""
        bucket, name = split_name(entry)
        store = self._stores.get(bucket) or self._open(bucket)
        data = bytes(self._get(store, name, options={"version": entry.version}).bytes())
        check_bytes(data, entry)
        return data

    def _open(self, bucket: str) -> Any:
        storage = self._storage
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._make(
                    bucket,
                    config={"base_url": storage.endpoint, "skip_signature": storage.anonymous},
                    client_options=_connect(storage.endpoint),
                    retry_config={"max_retries": 0},
                    credential_provider=None if storage.anonymous else self._provide,
                )
            return self._stores[bucket]

    def _provide(self) -> dict[str, Any]:
        """Hand obstore the token of the credentials that Google's client uses."""
        from google.auth.transport.requests import Request

        credentials = self._storage.credentials
        with self._lock:
            if not credentials.valid:
                credentials.refresh(Request())
            expiry = credentials.expiry
        return {"token": credentials.token, "expires_at": expiry and expiry.replace(tzinfo=UTC)}


def _connect(endpoint: str) -> dict[str, Any]:
    """How obstore connects: as Google's client does, which trusts what REQUESTS_CA_BUNDLE names."""
    options: dict[str, Any] = {
        "allow_http": endpoint.startswith("http://"),
        "timeout": timedelta(seconds=_TIMEOUT),
        "connect_timeout": timedelta(seconds=10),
    }
    if endpoint.startswith("https://") and (trusted := _find_trusted()):
        options["root_certificate"] = Path(trusted).read_bytes()
    return options


def _find_trusted() -> str:
    """The file or folder of certificates that Google's client is told to trust; '' for its own."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or ""


def open_fast_reader(storage: Storage) -> Reader | None:
    """Open obstore; None where it is missing or cannot do what this caller's way to the service asks."""
    if _needs_plain(storage.endpoint):
        return None
    try:
        return ObstoreReader(storage)
    except ImportError:
        return None


def _needs_plain(endpoint: str) -> bool:
    """Tell whether a proxy or a client certificate stands in the way, or the user chose Google's client."""
    from requests.utils import get_environ_proxies

    if Path(_find_trusted()).is_dir() and _find_trusted():
        return True
    if get_environ_proxies(endpoint) or os.environ.get("GOOGLE_API_USE_CLIENT_CERTIFICATE") == "true":
        return True
    return os.environ.get("WETREAD_GCS_READER") == "google"


def split_name(entry: Entry) -> tuple[str, str]:
    """Split an entry's URI into bucket and name. Raises ValueError: a wrong line in a list is its row's."""
    try:
        return split_location(entry.name)
    except UsageError as error:
        raise ValueError(str(error)) from error


def check_bytes(data: bytes, entry: Entry) -> None:
    """Hold bytes to the size and the crc32c of the listing. Raises BadBytesError."""
    if entry.size is not None and entry.checksum and len(data) != entry.size:
        raise BadBytesError(f"{len(data):,} bytes where the listing says {entry.size:,}")
    if entry.checksum and compute_checksum(data) != entry.checksum:
        raise BadBytesError(f"bytes whose crc32c is not the listing's {entry.checksum}")


def compute_checksum(data: bytes) -> str:
    """The crc32c of bytes as Cloud Storage writes it: base64 of four bytes, big-endian."""
    from google_crc32c import value

    return base64.b64encode(value(data).to_bytes(4, "big")).decode()


def _unpack(data: bytes) -> bytes:
    """Unpack gzip, up to a bound. Raises BadBytesError."""
    packed = zlib.decompressobj(31)
    try:
        found = packed.decompress(data, _UNPACKED)
    except zlib.error as error:
        raise BadBytesError(f"bytes that are not the gzip they are said to be: {error}") from error
    if not packed.eof:
        raise BadBytesError("gzip that ends early, or unpacks to more than 1 GB")
    return found
