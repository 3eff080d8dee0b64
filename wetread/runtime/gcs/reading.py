"""Reading objects for one run: ahead of the workers, and again where it failed for reasons that pass.

A single object that cannot be read becomes its row's status. What no row could do anything about (the
service does not answer at all, the credentials have ended) ends the run, which can be resumed.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from wetread.errors import ImageError, SourceError, Status, WetreadError
from wetread.packages import importing
from wetread.runtime.entries import Entry, is_bucket_location
from wetread.runtime.files.reading import read_entry
from wetread.runtime.gcs.client import Storage, StorageError, find_trusted, split_location
from wetread.runtime.gcs.failures import Failure, classify, storage_errors
from wetread.runtime.gcs.prefetch import Limits, ReadAhead
from wetread.runtime.gcs.readers import BadBytesError, GoogleReader, Reader

# How many requests at a time each client is good for: beyond, Google's only gets in its own way.
_PLAIN_REQUESTS, _FAST_REQUESTS = 32, 128
# Wrong bytes are asked for this often: what is stored wrong stays so, and the workers wait meanwhile.
_MISMATCHES = 5
# The lean reader makes so many attempts at an object, and is left for good once Google's succeeded this
# often in a row where it could not.
_FAST_ATTEMPTS, _STRIKES = 2, 8


class BucketReads:
    """Reads the objects of one run, and counts how it went; `read_file` reads the local files among them."""

    def __init__(self, storage: Storage, *, read_file: Callable[[Entry], bytes] = read_entry) -> None:
        with importing("google-crc32c", extra="gcs"):
            import google_crc32c  # noqa: F401
        self.storage = storage
        self._read_file = read_file
        self._plain: Reader = GoogleReader(storage)
        self._fast = open_fast_reader(storage)
        self._strikes = 0
        self._ahead: list[ReadAhead] = []
        self._lock = threading.Lock()
        self._objects = 0
        self._failed: Counter[str] = Counter()

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Pass entries on, in order, while their bytes are fetched for `read`."""
        most = _PLAIN_REQUESTS if self._first is self._plain else _FAST_REQUESTS
        ahead = ReadAhead(self.fetch, limits=Limits(most_requests=most))
        self._ahead.append(ahead)
        return ahead.entries(entries)

    def read(self, entry: Entry) -> bytes:
        """Return an object's bytes. Raises ImageError('unreadable'), or SourceError in an outage."""
        for ahead in self._ahead:
            data = ahead.take(entry)
            if data is not None:
                return data
        return self.fetch(entry)

    def fetch(self, entry: Entry) -> bytes:
        """Fetch an object (or read a local file) now, again while it fails for reasons that pass.

        Errors as in `read`.
        """
        if not is_bucket_location(entry.name):
            return self._read_file(entry)
        policy, start, attempt, wrong = self.storage.policy, monotonic(), 0, 0
        reader = first = self._choose(entry)
        while True:
            billed = self.storage.billed
            try:
                data = reader.read(entry)
                self._note_success(reader, first)
                return data
            except storage_errors() as error:
                failure = classify(error)
                wrong += isinstance(error, BadBytesError)
            self._count(failure)
            if reader is not self._plain and (wrong or failure.kind != "transient"):
                reader = self._plain  # a second opinion, at once: only its errors are believed
                continue
            if failure.kind == "requester_pays" and self.storage.bill(billed):
                continue
            wait = policy.wait(attempt)
            late = monotonic() - start + wait > policy.deadline
            if failure.kind != "transient" or late or wrong > _MISMATCHES:
                raise self._give_up(entry, failure, attempts=attempt + 1, since=start)
            attempt += 1
            reader = self._plain if attempt >= _FAST_ATTEMPTS else reader
            sleep(wait)

    def _choose(self, entry: Entry) -> Reader:
        """Choose the reader: the lean one knows no size and no checksum but the listing's."""
        known = entry.version and entry.checksum and entry.size is not None
        return self._first if known else self._plain

    @property
    def _first(self) -> Reader:
        """The reader to begin with: the lean one, where there is one and it was not given up."""
        return self._plain if self._fast is None else self._fast

    def _note_success(self, reader: Reader, first: Reader) -> None:
        self.storage.last_success = monotonic()
        with self._lock:
            self._objects += 1
            if reader is self._fast:
                self._strikes = 0
            elif first is self._fast:
                self._strikes += 1
                if self._strikes >= _STRIKES:
                    self._fast = None

    def _count(self, failure: Failure) -> None:
        with self._lock:
            self._failed[str(failure.status or failure.kind)] += 1
        if failure.throttled:
            for ahead in self._ahead:
                ahead.slow_down()

    def _give_up(self, entry: Entry, failure: Failure, *, attempts: int, since: float) -> WetreadError:
        """The error that an object's last failure amounts to: its row's status, or the end of the run."""
        who, seconds = self.storage.name_principal(failure.words), monotonic() - since
        words = failure.words
        if failure.kind == "credentials":
            return SourceError(
                f"Expected credentials that are valid. Received {words} ({who}). Renew them and run again."
            )
        if failure.kind == "transient" and self._is_out(entry, since=since):
            return SourceError(
                f"Expected answers of Cloud Storage. Received none in {seconds:.0f} seconds: {words}. Run "
                "again when it can be reached."
            )
        if failure.kind == "missing" and entry.version:
            words += ". It was deleted or replaced since it was listed"
        elif failure.kind == "denied" and "storage.objects.get" not in words:
            words += f" ({who} lacks storage.objects.get)"
        elif failure.kind == "transient":
            words += f" ({attempts} attempts in {seconds:.0f} seconds)"
        return ImageError(
            Status.UNREADABLE, f"Expected an object that can be read. Received {words.rstrip('.')}."
        )

    def _is_out(self, entry: Entry, *, since: float) -> bool:
        """Tell an outage from one bad object: nothing else succeeded either, nor does a small question."""
        if self.storage.last_success >= since:
            return False
        bucket, client = split_location(entry.name)[0], self.storage.client

        def ask() -> None:
            next(client.list_blobs(self.storage.bucket(bucket), max_results=1, retry=None).pages, None)

        try:
            self.storage.call(ask, deadline=min(10.0, self.storage.policy.deadline))
        except StorageError as error:
            return error.failure.kind == "transient"
        return False

    def describe(self) -> dict[str, Any]:
        """Tell how the reading went, for the run record."""
        found: dict[str, Any] = {
            "reader": self._first.name,
            "objects": self._objects,
            "failed_requests": dict(sorted(self._failed.items())),
        }
        if self._ahead:
            found["most_requests_at_once"] = max(ahead.most_at_once for ahead in self._ahead)
            found["seconds_idle"] = round(sum(ahead.idle_seconds for ahead in self._ahead), 3)
            found["seconds_listing"] = round(sum(ahead.listing_seconds for ahead in self._ahead), 3)
        return found


def open_fast_reader(storage: Storage) -> Reader | None:
    """Open the lean reader; None where this caller's way to the service asks for more than it knows.

    That is a proxy, a client certificate, a folder of trusted certificates, or the user's own choice
    (WETREAD_GCS_READER=google).
    """
    from requests.utils import get_environ_proxies

    from wetread.runtime.gcs.direct import DirectReader

    if get_environ_proxies(storage.endpoint) or not Path(find_trusted()).is_file():
        return None
    if os.environ.get("GOOGLE_API_USE_CLIENT_CERTIFICATE") == "true":
        return None
    return None if os.environ.get("WETREAD_GCS_READER") == "google" else DirectReader(storage)
