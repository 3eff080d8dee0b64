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
from time import monotonic
from typing import Any

from wetread.errors import ImageError, SourceError, Status, WetreadError
from wetread.packages import importing
from wetread.runtime.entries import Entry, is_bucket_location
from wetread.runtime.files.reading import read_entry
from wetread.runtime.gcs.client import Storage, find_trusted, split_location
from wetread.runtime.gcs.failures import THROTTLED_STATUSES, Failure, classify, is_failure
from wetread.runtime.gcs.object_readers import BadBytesError, GoogleReader, Reader
from wetread.runtime.gcs.prefetch import Limits, ReadAhead
from wetread.runtime.gcs.retry import StorageError, is_transient

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
        self.plain: Reader = GoogleReader(storage)
        self._fast = open_fast_reader(storage)
        self._strikes = 0
        self._ahead: list[ReadAhead] = []
        self._lock = threading.Lock()
        self._objects = 0
        self._failed: Counter[str] = Counter()

    def read_ahead(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Pass entries on, in order, while their bytes are fetched for `read`."""
        most = _PLAIN_REQUESTS if self._first is self.plain else _FAST_REQUESTS
        ahead = ReadAhead(
            self.fetch,
            limits=Limits(most_requests=most),
            # Files between them may be read by another process, and nobody would take them.
            wants=lambda entry: is_bucket_location(entry.name),
        )
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
        attempts, since, before = _Attempts(self, entry), monotonic(), self.storage.successes
        try:
            return self.storage.call(attempts.make, again=attempts.may_follow)
        except StorageError as error:
            alone = self.storage.successes == before
            raise self._give_up(entry, error.failure, attempts, since=since, alone=alone) from error

    def choose(self, entry: Entry) -> Reader:
        """Choose the reader: the lean one knows no size and no checksum but the listing's."""
        known = entry.version and entry.checksum and entry.size is not None
        return self._first if known else self.plain

    @property
    def _first(self) -> Reader:
        """The reader to begin with: the lean one, where there is one and it was not given up."""
        return self.plain if self._fast is None else self._fast

    def note_success(self, reader: Reader, first: Reader) -> None:
        """Count an object that was read, and leave the lean reader for good where it keeps failing."""
        with self._lock:
            self._objects += 1
            if reader is self._fast:
                self._strikes = 0
            elif first is self._fast:
                self._strikes += 1
                if self._strikes >= _STRIKES:
                    self._fast = None

    def count(self, failure: Failure) -> None:
        """Count a failed request, and read ahead less where the service asks for it."""
        with self._lock:
            self._failed[str(failure.status or failure.kind)] += 1
        if failure.status in THROTTLED_STATUSES:
            for ahead in self._ahead:
                ahead.slow_down()

    def _give_up(
        self, entry: Entry, failure: Failure, attempts: _Attempts, *, since: float, alone: bool
    ) -> WetreadError:
        """The error that an object's last failure amounts to: its row's status, or the end of the run.

        `alone`: no other request was answered meanwhile either.
        """
        who, seconds = self.storage.name_principal(failure.words), monotonic() - since
        words = failure.words
        if failure.kind == "credentials":
            return SourceError(f"The credentials of {who} are not valid: {words}. Renew them and run again.")
        if failure.kind == "transient" and alone and self._is_out(entry):
            return SourceError(
                f"Cloud Storage did not answer in {seconds:.0f} seconds: {words}. Run again when it can be "
                "reached."
            )
        if failure.kind == "missing" and entry.version:
            words += ". It was deleted or replaced since it was listed"
        elif failure.kind == "denied" and "storage.objects.get" not in words:
            words += f" ({who} lacks storage.objects.get)"
        elif failure.kind == "transient":
            words += f" ({attempts.failed} attempts in {seconds:.0f} seconds)"
        return ImageError(Status.UNREADABLE, f"The object cannot be read: {words.rstrip('.')}.")

    def _is_out(self, entry: Entry) -> bool:
        """Tell an outage from one bad object: a small question is not answered either."""
        path = f"/b/{split_location(entry.name)[0]}/o"
        try:
            self.storage.call(lambda: self.storage.ask(path, {"maxResults": "1"}), deadline=10.0)
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
            found["seconds_listing"] = round(sum(ahead.listing_seconds for ahead in self._ahead), 3)
        return found


class _Attempts:
    """The attempts at one object: who makes the next one, and how many failed."""

    def __init__(self, reads: BucketReads, entry: Entry) -> None:
        self._reads, self._entry = reads, entry
        self._reader = self._first = reads.choose(entry)
        self.failed = self._wrong = 0

    def make(self) -> bytes:
        """Return the object's bytes. Raises what the reader raises."""
        while True:
            try:
                data = self._reader.read(self._entry)
            except Exception as error:
                if not is_failure(error) or not self._ask_another(error):
                    raise
            else:
                self._reads.note_success(self._reader, self._first)
                return data

    def _ask_another(self, error: Exception) -> bool:
        """Count a failure; tell whether to ask Google's client at once, which is believed."""
        failure = classify(error)
        self._reads.count(failure)
        self._wrong += isinstance(error, BadBytesError)
        if self._reader is self._reads.plain or (is_transient(failure) and not self._wrong):
            return False
        self._reader = self._reads.plain
        return True

    def may_follow(self, failure: Failure) -> bool:
        """Count an attempt that failed, and tell whether another may follow."""
        self.failed += 1
        if self.failed >= _FAST_ATTEMPTS:
            self._reader = self._reads.plain
        return is_transient(failure) and self._wrong <= _MISMATCHES


def open_fast_reader(storage: Storage) -> Reader | None:
    """Open the lean reader; None where this caller's way to the service asks for more than it knows.

    That is a proxy, a client certificate, a folder of trusted certificates, or the user's own choice
    (WETREAD_GCS_READER=google).
    """
    from requests.utils import get_environ_proxies

    from wetread.runtime.gcs.direct_reading import DirectReader

    if get_environ_proxies(storage.endpoint) or not Path(find_trusted()).is_file():
        return None
    if os.environ.get("GOOGLE_API_USE_CLIENT_CERTIFICATE") == "true":
        return None
    return None if os.environ.get("WETREAD_GCS_READER") == "google" else DirectReader(storage)
