"""Reading ahead: fetch what will be asked for before it is, bounded in bytes and in requests.

A feeder thread goes through the listing and hands entries on; a pool of threads fetches their bytes in
listing order, as many at a time as the waiting workers turn out to need. A worker that asks for bytes that
nobody has begun to fetch fetches them itself, so that nothing can wait for ever.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from time import perf_counter

from wetread.runtime.entries import Entry

_UNKNOWN_SIZE = 256 << 10


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far to read ahead: requests at a time (to begin with, and at most), bytes, and names listed.

    One object larger than `bytes` is still fetched, alone.
    """

    requests: int = 32
    most_requests: int = 128
    fewest_requests: int = 4
    bytes: int = 64 << 20
    names: int = 2048


class _Slot:
    """One entry on its way; `bytes` once they are to be fetched."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.size = _UNKNOWN_SIZE if entry.size is None else entry.size
        self.bytes: Future[bytes] | None = None


class ReadAhead:
    """Fetches the bytes of one listing's entries ahead of `take`; of those for which `wants` is true.

    `fetch` returns an entry's bytes or raises; it is called from many threads. `listing_seconds` counts the
    time in which whoever asked for entries waited for the listing to name more.
    """

    def __init__(
        self,
        fetch: Callable[[Entry], bytes],
        *,
        limits: Limits | None = None,
        wants: Callable[[Entry], bool] = lambda _: True,
    ) -> None:
        self._fetch, self._wants = fetch, wants
        self.limits = limits or Limits()
        self.limit = self.limits.requests
        self.most_at_once = 0
        self.listing_seconds = 0.0
        self._pool = ThreadPoolExecutor(self.limits.most_requests, thread_name_prefix="wetread-read")
        self._lock = threading.Lock()
        self._names: Queue[Entry | None] = Queue(self.limits.names)
        self._pending: deque[_Slot] = deque()
        self._slots: dict[str, deque[_Slot]] = {}
        self._held = self._begun = self._running = self._waiting = 0
        self._listed = self._stopped = False
        self._slowed = 0.0
        self._error: BaseException | None = None

    def entries(self, upstream: Iterator[Entry]) -> Iterator[Entry]:
        """Pass a listing on, in order, while its bytes are being fetched. Raises what the listing raises."""
        feeder = threading.Thread(target=self._feed, args=(upstream,), name="wetread-list")
        feeder.start()
        try:
            while (entry := self._next_entry()) is not None:
                yield entry
        except GeneratorExit:
            self._stop()
            raise
        finally:
            feeder.join()
        if self._error is not None:
            raise self._error

    def take(self, entry: Entry) -> bytes | None:
        """Return an entry's bytes, waiting for them; None when they were never to be fetched ahead.

        Raises what `fetch` raised.
        """
        with self._lock:
            slots = self._slots.get(entry.name)
            if not slots:
                return None
            slot = slots.popleft()
            if not slots:
                del self._slots[entry.name]
            found = slot.bytes
            waits = found is not None and not found.done()
            self._waiting += waits
            if found is None:
                self._pending.remove(slot)
                self._held += slot.size
        try:
            return self._run(entry) if found is None or found.cancel() else found.result()
        finally:
            with self._lock:
                self._waiting -= waits
                self._begun -= found is not None and found.cancelled()
                self._held -= slot.size
                self._begin()

    def slow_down(self) -> None:
        """Allow fewer requests at a time, for the service asked for it; successes let them grow again."""
        with self._lock:
            if perf_counter() - self._slowed > 0.5:
                self._slowed = perf_counter()
                self.limit = max(self.limits.fewest_requests, self.limit * 3 // 4)

    def _feed(self, upstream: Iterator[Entry]) -> None:
        """Go through the listing, a bounded number of names ahead."""
        try:
            for entry in upstream:
                if self._wants(entry):
                    slot = _Slot(entry)
                    with self._lock:
                        self._pending.append(slot)
                        self._slots.setdefault(entry.name, deque()).append(slot)
                self._pass_on(entry)  # first: beginning may start a thread, which takes a while
                if self._stopped:
                    return
                with self._lock:
                    self._begin()
        except BaseException as error:  # noqa: BLE001 - raised again where the entries are asked for
            self._error = error
        with self._lock:
            self._listed = True
            self._begin()
        self._pass_on(None)

    def _pass_on(self, entry: Entry | None) -> None:
        while not self._stopped:
            with suppress(Full):
                return self._names.put(entry, timeout=1.0)
            if not threading.main_thread().is_alive():
                self._stop()  # a consumer that never comes back must not keep the process alive

    def _next_entry(self) -> Entry | None:
        try:
            return self._names.get_nowait()
        except Empty:
            start = perf_counter()
            entry = self._names.get()
            self.listing_seconds += perf_counter() - start
            return entry

    def _begin(self) -> None:
        """Have fetched, in order, what the limits allow. Called with the lock held."""
        while self._pending and self._begun < self.limit and not self._stopped:
            size = self._pending[0].size
            if self._held and self._held + size > self.limits.bytes:
                return
            slot = self._pending.popleft()
            self._held += size
            self._begun += 1
            slot.bytes = self._pool.submit(self._fetch_ahead, slot.entry)
        if self._listed and not self._pending:
            self._pool.shutdown(wait=False)

    def _fetch_ahead(self, entry: Entry) -> bytes:
        try:
            return self._run(entry)
        finally:
            with self._lock:
                if self._waiting and self._begun >= self.limit:
                    self.limit = min(self.limit + 1, self.limits.most_requests)
                self._begun -= 1
                self._begin()

    def _run(self, entry: Entry) -> bytes:
        with self._lock:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            return self._fetch(entry)
        finally:
            with self._lock:
                self._running -= 1

    def _stop(self) -> None:
        """Begin nothing more; what was begun is fetched, or by whoever asks for it."""
        with self._lock:
            self._stopped = True
            self._pool.shutdown(wait=False, cancel_futures=True)
        with suppress(Empty):
            while True:
                self._names.get_nowait()
